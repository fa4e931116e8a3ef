//! The ACL token: in a file, read again when the file changes.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::Failure;

/// Longest token; Consul's are 36 characters.
const MAX_TOKEN: u64 = 4096;
/// Time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// A token that may change.
#[derive(Debug, Default)]
pub(crate) struct Token {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    value: Option<HeaderValue>,
    fingerprint: Option<(u64, u64, i64, i64)>,
    looked: Option<Instant>,
    trouble: Option<String>,
    changes: u64,
}

impl Token {
    /// The token in this file, or none.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, state: Mutex::default() }
    }

    /// Whether there is meant to be one.
    pub(crate) fn is_set(&self) -> bool {
        self.file.is_some()
    }

    /// How often it changed; a number that differs says that it is another one now.
    pub(crate) fn changes(&self) -> u64 {
        let mut state = self.state.lock();
        self.look(&mut state);
        state.changes
    }

    /// As a header. A file that went, or became bad, leaves the last good token.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        if self.file.is_none() {
            return Ok(None);
        }
        let mut state = self.state.lock();
        self.look(&mut state);
        match (&state.value, &state.trouble) {
            (Some(value), _) => Ok(Some(value.clone())),
            (None, trouble) => Err(Failure::Token(trouble.clone().unwrap_or_else(|| "there is no token".to_owned()))),
        }
    }

    fn look(&self, state: &mut State) {
        let Some(file) = &self.file else { return };
        if state.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        state.looked = Some(Instant::now());
        let fingerprint = std::fs::metadata(file).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        if fingerprint.is_some() && fingerprint == state.fingerprint {
            return;
        }
        state.fingerprint = fingerprint;
        match read(file) {
            Ok(value) => {
                state.trouble = None;
                if state.value.as_ref() != Some(&value) {
                    state.value = Some(value);
                    state.changes += 1;
                }
            }
            Err(why) => {
                let why = format!("tokenFile {}: {why}", file.display());
                if state.trouble.as_ref() != Some(&why) {
                    tracing::warn!(%why, kept = state.value.is_some(), "consul token can't be read");
                }
                state.trouble = Some(why);
                state.fingerprint = None;
            }
        }
    }
}

fn read(file: &Path) -> Result<HeaderValue, String> {
    let failed = |error: std::io::Error| format!("it can't be read: {error}");
    // A pipe could hold us up for ever.
    if !std::fs::metadata(file).map_err(failed)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = Zeroizing::new(String::new());
    File::open(file).map_err(failed)?.take(MAX_TOKEN + 1).read_to_string(&mut text).map_err(failed)?;
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty; write the token's SecretID into it".to_owned());
    }
    let value = HeaderValue::from_str(token).ok().filter(|_| text.len() as u64 <= MAX_TOKEN);
    let mut value = value.ok_or("it holds no token; write the token's SecretID into it and nothing else")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(token: &Token) {
        token.state.lock().looked = None;
    }

    #[test]
    fn a_token_that_was_replaced_is_used_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token = Token::new(Some(file.clone()));
        assert!(matches!(token.header(), Err(Failure::Token(why)) if why.contains("tokenFile")));
        std::fs::write(&file, "one\n").unwrap();
        later(&token);
        assert_eq!((token.header().unwrap().unwrap().to_str().unwrap(), token.changes()), ("one", 1));
        std::fs::write(&file, "another").unwrap();
        later(&token);
        assert_eq!((token.changes(), token.header().unwrap().unwrap().to_str().unwrap()), (2, "another"));
        std::fs::remove_file(&file).unwrap();
        later(&token);
        assert_eq!((token.changes(), token.header().unwrap().unwrap().to_str().unwrap()), (2, "another"));
    }

    #[test]
    fn a_token_is_in_no_text_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret").unwrap();
        let token = Token::new(Some(file));
        let header = token.header().unwrap();
        assert!(!format!("{token:?} {header:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("empty", &b" \n"[..]), ("control", b"a\x01b"), ("large", &[b'a'; 5000]), ("binary", b"\xff\xfe")]
        {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            assert!(Token::new(Some(file)).header().is_err(), "{name}");
        }
        assert!(Token::new(Some("/dev/zero".into())).header().is_err());
    }
}
