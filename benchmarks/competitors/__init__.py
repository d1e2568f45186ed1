"""The device verifier as others would write it, to be measured beside this project's."""
