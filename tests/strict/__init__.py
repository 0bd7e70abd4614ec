"""What separates a router that one can trust from a toy: real sockets and servers, no mercy."""
