//! How much a server may say of one kind. No I/O.
//!
//! In: what came of a list, piece by piece; what a watch adds and takes. Out: why it is too much. Invariant: a server that
//! never ends, by fault or by intent, costs no more than the bound.

/// Objects of one kind, unless somebody says otherwise: more than Kubernetes is made for.
pub(crate) const OBJECTS: usize = 200_000;
/// Bytes of a list, for each object that it may have: what is kept of them is far less.
const BYTES_EACH: usize = 4 << 10;
/// A list of few objects may have large ones.
const BYTES_LEAST: usize = 256 << 20;
/// Pages of a list.
const PAGES: usize = 10_000;

/// What a list has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    most: usize,
    objects: usize,
    bytes: usize,
    pages: usize,
}

impl Measure {
    /// Of nothing, where so many objects are the most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, objects: 0, bytes: 0, pages: 0 }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        *self = Self::new(self.most);
    }

    /// So many bytes of it came.
    pub(super) fn weigh(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A page of it came.
    pub(super) fn page(&mut self) {
        self.pages += 1;
    }

    /// So many objects are held now.
    pub(super) fn hold(&mut self, objects: usize) {
        self.objects = objects;
    }

    /// Another object is held.
    pub(super) fn add(&mut self) {
        self.objects += 1;
    }

    /// One is no longer held.
    pub(super) fn take(&mut self) {
        self.objects = self.objects.saturating_sub(1);
    }

    /// Why it is too much; `None` if it is not.
    pub(super) fn excess(&self) -> Option<String> {
        let bytes = self.most.saturating_mul(BYTES_EACH).max(BYTES_LEAST);
        if self.objects > self.most {
            return Some(format!("more than {} objects", self.most));
        }
        if self.bytes > bytes {
            return Some(format!("more than {} MiB, which is the bound for {} objects", bytes >> 20, self.most));
        }
        (self.pages > PAGES).then(|| format!("more than {PAGES} pages"))
    }
}
