"""Sockets: the nested epoll, links with back-pressure, TLS, listeners."""
