//! What somebody who was asked wants changed in a head.

use http::{HeaderName, HeaderValue, Method};

use crate::config::guard::authz::FRAMING;
use crate::http::message::{Fields, RequestHead};

/// What is to be changed, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Vec<(HeaderName, Change)>, Special);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One more of it.
    Add(HeaderValue),
    /// To the list that is there.
    Join(HeaderValue),
    /// If there is none.
    IfAbsent(HeaderValue),
    /// The only one.
    Set(HeaderValue),
    /// The only one, if there is one.
    IfPresent(HeaderValue),
    /// It goes.
    Remove,
}

/// What is no field of a request's head.
#[derive(Clone, Debug, Default)]
struct Special {
    method: Option<Method>,
    path: Option<String>,
    authority: Option<String>,
}

/// A change that can't be made.
#[derive(Debug)]
pub(crate) struct Impossible;

impl Changes {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.method.is_none() && self.1.path.is_none() && self.1.authority.is_none()
    }

    /// And these.
    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// One more. What frames a message is left as it is.
    ///
    /// # Errors
    /// If name or value can't be those of a field.
    pub(crate) fn push(
        &mut self,
        name: &str,
        value: &[u8],
        how: impl FnOnce(HeaderValue) -> Change,
    ) -> Result<(), Impossible> {
        if let Some(special) = name.strip_prefix(':') {
            return self.special(special, value);
        }
        if name.eq_ignore_ascii_case("host") {
            return self.special("authority", value);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Impossible)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Impossible)?;
        if !FRAMING.contains(&name.as_str()) {
            self.0.push((name, how(value)));
        }
        Ok(())
    }

    /// A field goes. What is none can't.
    pub(crate) fn remove(&mut self, name: &str) {
        let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes()) else { return };
        if !FRAMING.contains(&name.as_str()) {
            self.0.push((name, Change::Remove));
        }
    }

    fn special(&mut self, name: &str, value: &[u8]) -> Result<(), Impossible> {
        let text = std::str::from_utf8(value).map_err(|_| Impossible)?;
        match name {
            "method" => {
                let method = Method::from_bytes(value).map_err(|_| Impossible)?;
                // A tunnel is made by a client alone.
                if method == Method::CONNECT {
                    return Err(Impossible);
                }
                self.1.method = Some(method);
            }
            "path" if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => {
                self.1.path = Some(text.to_owned());
            }
            "authority" if is_authority(text) => self.1.authority = Some(text.to_owned()),
            "scheme" | "status" => {}
            _ => return Err(Impossible),
        }
        Ok(())
    }

    /// Changes the head of a request.
    pub(crate) fn request(&self, head: &mut RequestHead) {
        if let Some(method) = self.1.method.as_ref().filter(|_| head.method != Method::CONNECT) {
            head.method = method.clone();
        }
        if let Some(path) = &self.1.path {
            head.set_path(path.as_bytes());
        }
        if let Some(authority) = &self.1.authority {
            head.set_authority(authority.as_bytes());
        }
        self.fields(&mut head.fields);
    }

    /// Puts fields in the place of those of the same names, whatever else was said of them; but not those that `keep` has.
    pub(crate) fn replace(&self, fields: &mut Fields, keep: &[&str]) {
        let ours = || self.0.iter().filter(|(name, _)| !keep.contains(&name.as_str()));
        for (name, _) in ours() {
            fields.remove(name.as_str());
        }
        for (name, change) in ours() {
            let (Change::Add(value)
            | Change::Join(value)
            | Change::IfAbsent(value)
            | Change::Set(value)
            | Change::IfPresent(value)) = change
            else {
                continue;
            };
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }

    /// Changes fields.
    pub(crate) fn fields(&self, fields: &mut Fields) {
        for (name, change) in &self.0 {
            let name = name.as_str();
            let there = fields.get(name).is_some();
            match change {
                Change::Add(value) => fields.push(name.as_bytes(), value.as_bytes()),
                Change::Join(value) if there => {
                    let before = fields.all(name).chain([value.as_bytes()]).collect::<Vec<_>>().join(&b","[..]);
                    fields.set(name, &before);
                }
                Change::IfAbsent(value) if !there => fields.push(name.as_bytes(), value.as_bytes()),
                Change::Set(value) => fields.set(name, value.as_bytes()),
                Change::IfPresent(value) if there => fields.set(name, value.as_bytes()),
                Change::Join(_) | Change::IfAbsent(_) | Change::IfPresent(_) => {}
                Change::Remove => drop(fields.remove(name)),
            }
        }
    }
}

fn is_authority(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%');
    !text.is_empty() && text.len() <= 512 && text.bytes().all(good)
}
