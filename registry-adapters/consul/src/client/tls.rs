//! TLS toward Consul's servers.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use reqwest::{Certificate, Identity};
use zeroize::Zeroizing;

use crate::settings::{Settings, SettingsError};

/// Largest file.
const MAX_FILE: u64 = 4 << 20;

/// What the files of the settings hold.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// Roots; those of the system, if absent.
    roots: Option<Vec<Certificate>>,
    /// Our own certificate with its key.
    identity: Option<Identity>,
}

/// Of each file, what changes when it is written or replaced.
pub(super) type Stamps = [Option<(u64, u64, i64, i64)>; 3];

/// Of the files as they are now.
pub(super) fn stamps(settings: &Settings) -> Stamps {
    let stamp = |file: &Option<std::path::PathBuf>| {
        let m = std::fs::metadata(file.as_deref()?).ok()?;
        Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
    };
    [stamp(&settings.ca_file), stamp(&settings.cert_file), stamp(&settings.key_file)]
}

impl Tls {
    /// Reads the files.
    pub(super) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let roots = settings.ca_file.as_deref().map(roots).transpose()?;
        let identity = match (&settings.cert_file, &settings.key_file) {
            (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
            _ => None,
        };
        Ok(Self { roots, identity })
    }

    /// Says it to a client.
    pub(super) fn apply(&self, mut builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        if let Some(roots) = &self.roots {
            builder = builder.tls_certs_only(roots.iter().cloned());
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        builder
    }
}

fn roots(file: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let roots = Certificate::from_pem_bundle(&read("caFile", file)?).unwrap_or_default();
    if roots.is_empty() {
        return Err(wrong("caFile", file, "there is no certificate in it; it must be PEM"));
    }
    Ok(roots)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, SettingsError> {
    let mut both = read("keyFile", key)?;
    both.extend_from_slice(b"\n");
    both.extend_from_slice(&read("certFile", certificate)?);
    Identity::from_pem(&both).map_err(|_| wrong("keyFile", key, "key and certificate can't be read; both must be PEM"))
}

fn read(field: &str, file: &Path) -> Result<Zeroizing<Vec<u8>>, SettingsError> {
    let failed = |error: std::io::Error| wrong(field, file, &error.to_string());
    // A pipe could hold us up for ever.
    if !std::fs::metadata(file).map_err(failed)?.is_file() {
        return Err(wrong(field, file, "it is not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(field, file, "it is larger than 4 MiB"));
    }
    Ok(bytes)
}

fn wrong(field: &str, file: &Path, why: &str) -> SettingsError {
    SettingsError { field: field.to_owned(), message: format!("{}: {why}", file.display()) }
}
