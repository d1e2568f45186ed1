"""The management API as a whole: its addresses, its OpenAPI document, and the page of that."""
