//! Requests of HTTP/1 and their bodies, as a server reads them.

