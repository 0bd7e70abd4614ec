"""The PostgreSQL wire protocol without I/O: bytes in, decisions and bytes out."""
