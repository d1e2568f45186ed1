"""What rules come to as a whole: assertions about them, faults in them, and what a change does."""
