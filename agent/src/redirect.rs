//! Redirection: what of the host's traffic goes through the proxy, as one nftables table and a few routes.
