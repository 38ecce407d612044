"""Words and rules as plain data: no I/O, no clock, no logging."""
