//! Look-ups of names by a program that is linked statically.

/// From now on hosts are looked up in /etc/hosts and by DNS, users and groups in their files, whatever /etc/nsswitch.conf says: its
/// modules are made for another C library than the one in this program. Call it first thing. Nothing where the library has none.
pub fn names_without_modules() {
    #[cfg(target_env = "gnu")]
    {
        use std::ffi::{c_char, c_int};
        #[allow(unsafe_code)]
        // SAFETY: glibc's <nss.h> declares it so.
        unsafe extern "C" {
            fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
        }
        for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"group", c"files")] {
            #[allow(unsafe_code)]
            // SAFETY: both are strings that end with zero and live for ever; it copies what it keeps.
            unsafe {
                __nss_configure_lookup(database.as_ptr(), services.as_ptr());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs as _;

    #[test]
    fn names_in_files_are_found() {
        super::names_without_modules();
        let mut found = ("localhost", 1).to_socket_addrs().unwrap();
        assert!(found.any(|address| address.ip().is_loopback()));
        assert!(nix::unistd::User::from_name("root").unwrap().is_some_and(|user| user.uid.is_root()));
    }
}
