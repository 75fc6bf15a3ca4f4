"""One program each: reads a specification, warms up once, does the work, writes a record. Imported by the process it is for."""
