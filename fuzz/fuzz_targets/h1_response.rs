//! Responses of HTTP/1 and their bodies, as a client reads them.

