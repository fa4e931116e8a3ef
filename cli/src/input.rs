//! What people hand in: files of YAML, tokens, `key=value`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hawser_api::proto::admin::{Document, NamedPort};

use crate::exit;
use crate::failure::{Failure, Outcome};

/// More than this in one request is refused before it is sent.
const LARGEST: u64 = 3 << 20;

/// Reads `-f` arguments: files, directories (their `*.yaml`, `*.yml`, `*.json`, by name) and `-` for stdin.
pub(crate) fn documents(paths: &[PathBuf]) -> Outcome<Vec<Document>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            for entry in std::fs::read_dir(path).map_err(|e| unreadable(path, &e))? {
                let file = entry.map_err(|e| unreadable(path, &e))?.path();
                let known = |x: &std::ffi::OsStr| x == "yaml" || x == "yml" || x == "json";
                if file.is_file() && file.extension().is_some_and(known) {
                    files.push(file);
                }
            }
            files[before..].sort();
            if files.len() == before {
                let text = format!("{} holds no *.yaml, *.yml or *.json", path.display());
                return Err(Failure::new(exit::NOT_FOUND, text));
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut left = LARGEST;
    let mut documents = Vec::new();
    for file in files {
        let yaml = if file.as_os_str() == "-" { stdin(left)? } else { text(&file, left)? };
        left = left.saturating_sub(yaml.len() as u64);
        let file = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
        documents.push(Document { file, yaml });
    }
    Ok(documents)
}

/// A join token: the argument, `-` for stdin, a file, or the environment.
pub(crate) fn token(argument: Option<String>, file: Option<&Path>, variable: Option<String>) -> Outcome<String> {
    let text = match (argument, file, variable) {
        (Some(dash), None, _) if dash == "-" => stdin(64 << 10)?,
        (Some(token), None, _) => token,
        (None, Some(file), _) => text(file, 64 << 10)?,
        (None, None, Some(token)) if !token.is_empty() => token,
        _ => {
            let failure = Failure::new(exit::USAGE, "no join token was given");
            return Err(failure.hint("hawser join <token>, --token-file <file>, `-` for stdin, or HAWSER_TOKEN"));
        }
    };
    Ok(text.trim().to_owned())
}

/// The same, if there is one.
pub(crate) fn token_if_any(
    argument: Option<String>,
    file: Option<&Path>,
    variable: Option<String>,
) -> Outcome<Option<String>> {
    let variable = variable.filter(|token| !token.is_empty());
    if argument.is_none() && file.is_none() && variable.is_none() {
        return Ok(None);
    }
    token(argument, file, variable).map(Some)
}

/// `http=9080`, or `9080` whose name is empty.
pub(crate) fn port(text: &str) -> Result<NamedPort, String> {
    let (name, number) = text.split_once('=').unwrap_or(("", text));
    let port: u16 = number.parse().ok().filter(|p| *p != 0).ok_or("a port is name=number, say http=9080")?;
    Ok(NamedPort { name: name.to_owned(), port: port.into() })
}

/// `app=reviews`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is key=value")?;
    if key.is_empty() {
        return Err("a label's key can't be empty".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `default/reviews`, or `reviews` in namespace `default`.
pub(crate) fn namespaced(text: &str) -> (String, String) {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    (namespace.to_owned(), name.to_owned())
}

fn text(path: &Path, limit: u64) -> Outcome<String> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    read(file, &path.display().to_string(), limit)
}

fn stdin(limit: u64) -> Outcome<String> {
    read(std::io::stdin().lock(), "stdin", limit)
}

fn read(source: impl std::io::Read, name: &str, limit: u64) -> Outcome<String> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|e| unreadable(Path::new(name), &e))?;
    if bytes.len() as u64 > limit {
        let text = format!("{name}: more than {LARGEST} bytes at once are not taken");
        return Err(Failure::new(exit::INVALID, text).hint("hand it in as several commands"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(exit::INVALID, format!("{name}: this is not UTF-8 text")))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = if error.kind() == std::io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::FAILURE };
    Failure::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_labels_are_read_strictly() {
        assert_eq!(port("http=9080").unwrap(), NamedPort { name: "http".into(), port: 9080 });
        assert!(port("http=0").is_err() && port("http=65536").is_err() && port("http").is_err());
        assert_eq!(label("app=a=b").unwrap(), ("app".into(), "a=b".into()));
        assert!(label("=x").is_err() && label("x").is_err());
    }

    #[test]
    fn a_token_comes_from_one_place() {
        assert_eq!(token(Some(" hwj1.x\n".into()), None, Some("other".into())).unwrap(), "hwj1.x");
        assert_eq!(token(None, None, None).unwrap_err().code, exit::USAGE);
        assert_eq!(token_if_any(None, None, Some(String::new())).unwrap(), None);
        assert_eq!(token_if_any(None, None, Some("hwj1.x".into())).unwrap().as_deref(), Some("hwj1.x"));
    }
}
