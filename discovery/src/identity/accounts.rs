//! Service accounts of Kubernetes as proof of identity.
//!
//! In: a token that a caller shows, and the name of its cluster. Out: the account whose token it is, as the cluster's own
//! API server says (TokenReview). Invariants: what a token says of itself counts only after the server has vouched for
//! it; a token for another audience is no proof; an answer is believed no longer than the token lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hawser_api::identity::{SpiffeId, TrustDomain};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Whom a token must be for unless told otherwise: what Istio's agents ask for.
pub const DEFAULT_AUDIENCE: &str = "istio-ca";
/// A token bound to a pod is about 1.5 KB.
const LONGEST_TOKEN: usize = 16 << 10;
/// As long as the API server itself goes on believing: a pod that is gone is no proof a moment longer than there.
const BELIEVED: Duration = Duration::from_secs(10);
const MOST_BELIEVED: usize = 4096;
/// Questions at once, to all clusters together.
const MOST_REVIEWS: usize = 32;
/// How long a caller waits for its turn and the answer.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_REASON: usize = 200;
/// What Istio's agents call a cluster that nobody has named.
const UNNAMED: &str = "Kubernetes";

/// A service account that was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The cluster that vouched for it.
    pub cluster: Arc<str>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pod that the token is bound to.
    pub pod: Option<BoundPod>,
}

/// A pod that a token lives and dies with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// `status` of an `authentication.k8s.io/v1` TokenReview.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Review {
    /// Whether the token is good. Absent where it is not.
    pub authenticated: bool,
    /// Whose it is.
    pub user: User,
    /// Those of the audiences asked for that the token is for.
    pub audiences: Vec<String>,
    /// Why it is not good.
    pub error: String,
}

/// `status.user` of a TokenReview.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME` for an account.
    pub username: String,
    /// Groups, `system:serviceaccounts` among them for an account.
    pub groups: Vec<String>,
    /// More, the pod that the token is bound to for one.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The API server could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReview(pub String);

/// Asks a cluster's API server about tokens.
#[tonic::async_trait]
pub trait Reviewer: Send + Sync {
    /// What it says about a token that should be for `audience`.
    async fn review(&self, token: &str, audience: &str) -> Result<Review, NoReview>;
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// There is no cluster to ask.
    #[error("this discovery follows no Kubernetes cluster, so a token is no proof: show a current client certificate")]
    NoCluster,
    /// Not this one.
    #[error("cluster {0:?} is not followed here, so its tokens are no proof")]
    UnknownCluster(String),
    /// No token of a service account.
    #[error("the token is none of a service account: it must be a JSON Web Token of at most 16 KiB with an end")]
    Malformed,
    /// It has ended.
    #[error("the token has expired: a newer one is in the file that it came from")]
    Expired,
    /// The API server does not take it.
    #[error("the API server of cluster {cluster:?} does not vouch for the token: {why}")]
    Refused {
        /// Which.
        cluster: Arc<str>,
        /// In its words.
        why: String,
    },
    /// It is somebody else's.
    #[error("the token is for another audience than {0:?}")]
    Audience(String),
    /// Not a service account.
    #[error("{0:?} is no service account")]
    NoAccount(String),
    /// Nobody answered.
    #[error("the API server of cluster {cluster:?} can't be asked about the token: {why}")]
    NoAnswer {
        /// Which.
        cluster: Arc<str>,
        /// Why not.
        why: String,
    },
}

impl From<Unproved> for Status {
    fn from(error: Unproved) -> Self {
        match error {
            Unproved::NoAnswer { .. } => Self::unavailable(error.to_string()),
            _ => Self::unauthenticated(error.to_string()),
        }
    }
}

/// The clusters that can be asked, and what they said a moment ago. Clones share both.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

struct Inner {
    audience: String,
    clusters: Mutex<Clusters>,
    believed: Mutex<BTreeMap<Asked, Believed>>,
    places: Semaphore,
}

#[derive(Default)]
struct Clusters {
    /// The cluster of callers that name none.
    primary: Option<Arc<str>>,
    all: BTreeMap<Arc<str>, Arc<dyn Reviewer>>,
}

/// A cluster, and the digest of a token.
type Asked = (Arc<str>, [u8; 32]);

struct Believed {
    account: Account,
    until: SystemTime,
}

impl Accounts {
    /// Tokens must be for `audience`.
    pub fn new(audience: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                audience: audience.to_owned(),
                clusters: Mutex::default(),
                believed: Mutex::default(),
                places: Semaphore::new(MOST_REVIEWS),
            }),
        }
    }

    /// From now on this cluster is asked. The first is that of callers that name none.
    pub fn follow(&self, cluster: &str, reviewer: Arc<dyn Reviewer>) {
        let mut clusters = self.inner.clusters.lock();
        let cluster: Arc<str> = cluster.into();
        clusters.primary.get_or_insert_with(|| cluster.clone());
        clusters.all.insert(cluster.clone(), reviewer);
        drop(clusters);
        self.forget(&cluster);
    }

    /// From now on it proves nothing.
    pub fn leave(&self, cluster: &str) {
        let mut clusters = self.inner.clusters.lock();
        clusters.all.remove(cluster);
        clusters.primary.take_if(|primary| **primary == *cluster);
        drop(clusters);
        self.forget(cluster);
    }

    /// The account whose token it is.
    ///
    /// # Errors
    /// See [`Unproved`].
    pub async fn prove(&self, token: &str, cluster: Option<&str>, now: SystemTime) -> Result<Account, Unproved> {
        let (cluster, reviewer) = self.cluster(cluster)?;
        let end = end(token).ok_or(Unproved::Malformed)?;
        if end <= now {
            return Err(Unproved::Expired);
        }
        let asked = (cluster.clone(), hash(token));
        if let Some(believed) = self.inner.believed.lock().get(&asked).filter(|believed| now < believed.until) {
            return Ok(believed.account.clone());
        }
        let answer = tokio::time::timeout(PATIENCE, async {
            let _place = self.inner.places.acquire().await;
            reviewer.review(token, &self.inner.audience).await
        });
        let no_answer = |why: String| Unproved::NoAnswer { cluster: cluster.clone(), why: shorten(&why) };
        let answer = answer.await.map_err(|_| no_answer(format!("no answer within {} s", PATIENCE.as_secs())))?;
        let account = account(&cluster, &self.inner.audience, answer.map_err(|NoReview(why)| no_answer(why))?)?;
        self.believe(asked, Believed { account: account.clone(), until: end.min(now + BELIEVED) }, now);
        Ok(account)
    }

    /// Whom the token that a request shows proves to be there; `None` if it shows none.
    ///
    /// # Errors
    /// See [`Unproved`].
    pub async fn caller(&self, metadata: &MetadataMap, domain: &TrustDomain) -> Result<Option<SpiffeId>, Unproved> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let Some(shown) = text("authorization") else { return Ok(None) };
        let known = |scheme: &str| ["bearer", "istio"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let token = shown.split_once(' ').filter(|(scheme, _)| known(scheme)).ok_or(Unproved::Malformed)?.1;
        let account = self.prove(token.trim(), text("clusterid"), SystemTime::now()).await?;
        let id = domain.workload(&account.namespace, &account.name);
        id.map(Some).map_err(|_| Unproved::NoAccount(shorten(&account.name)))
    }

    fn cluster(&self, named: Option<&str>) -> Result<(Arc<str>, Arc<dyn Reviewer>), Unproved> {
        let clusters = self.inner.clusters.lock();
        let primary = clusters.primary.as_deref();
        let name = match named.filter(|name| *name != UNNAMED || clusters.all.contains_key(*name)) {
            Some(name) => name,
            None => primary.ok_or(Unproved::NoCluster)?,
        };
        let found = clusters.all.get_key_value(name);
        let (name, reviewer) = found.ok_or_else(|| match clusters.all.is_empty() {
            true => Unproved::NoCluster,
            false => Unproved::UnknownCluster(shorten(name)),
        })?;
        Ok((name.clone(), reviewer.clone()))
    }

    fn believe(&self, asked: Asked, answer: Believed, now: SystemTime) {
        // What is asked of a cluster that was left meanwhile is not remembered beyond it.
        let clusters = self.inner.clusters.lock();
        if !clusters.all.contains_key(&asked.0) {
            return;
        }
        let mut believed = self.inner.believed.lock();
        if believed.len() >= MOST_BELIEVED {
            believed.retain(|_, old| now < old.until);
        }
        if believed.len() < MOST_BELIEVED {
            believed.insert(asked, answer);
        }
    }

    fn forget(&self, cluster: &str) {
        self.inner.believed.lock().retain(|(of, _), _| **of != *cluster);
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("audience", &self.inner.audience).finish_non_exhaustive()
    }
}

/// What a review proves.
fn account(cluster: &Arc<str>, audience: &str, review: Review) -> Result<Account, Unproved> {
    if !review.authenticated {
        let why = if review.error.is_empty() { "it is not good" } else { &review.error };
        return Err(Unproved::Refused { cluster: cluster.clone(), why: shorten(why) });
    }
    // A server that knows nothing of audiences names none.
    if !review.audiences.iter().any(|of| of == audience) {
        return Err(Unproved::Audience(audience.to_owned()));
    }
    let user = review.user;
    let account = user.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let of_accounts = user.groups.iter().any(|group| group == "system:serviceaccounts");
    let Some((namespace, name)) = account.filter(|_| of_accounts) else {
        return Err(Unproved::NoAccount(shorten(&user.username)));
    };
    let extra = |key: &str| match user.extra.get(key).map(Vec::as_slice) {
        Some([value]) => Some(value.clone()),
        _ => None,
    };
    let pod = extra("authentication.kubernetes.io/pod-name").zip(extra("authentication.kubernetes.io/pod-uid"));
    Ok(Account {
        cluster: cluster.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        pod: pod.map(|(name, uid)| BoundPod { name, uid }),
    })
}

/// When a token ends, as it says itself; `None` if it is no JSON Web Token with an end.
fn end(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    if token.len() > LONGEST_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (head, rest) = token.split_once('.')?;
    let (claims, signature) = rest.split_once('.')?;
    if head.is_empty() || signature.is_empty() || signature.contains('.') {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let end = Duration::try_from_secs_f64(claims.exp).ok()?;
    UNIX_EPOCH.checked_add(end)
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

/// A stranger's words, cut to what fits a sentence.
fn shorten(text: &str) -> String {
    text.chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Server {
        says: Mutex<Result<Review, NoReview>>,
        asked: AtomicUsize,
    }

    #[tonic::async_trait]
    impl Reviewer for Server {
        async fn review(&self, _: &str, audience: &str) -> Result<Review, NoReview> {
            assert_eq!(audience, DEFAULT_AUDIENCE);
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.says.lock().clone()
        }
    }

    const NOW: u64 = 1_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn good() -> Review {
        let extra = [("pod-name", "web-0"), ("pod-uid", "ffd53054"), ("node-name", "node-a")];
        Review {
            authenticated: true,
            user: User {
                username: "system:serviceaccount:tok:web".into(),
                groups: ["system:serviceaccounts", "system:serviceaccounts:tok", "system:authenticated"]
                    .map(String::from)
                    .into(),
                extra: extra.map(|(k, v)| (format!("authentication.kubernetes.io/{k}"), vec![v.to_owned()])).into(),
            },
            audiences: vec![DEFAULT_AUDIENCE.into()],
            error: String::new(),
        }
    }

    fn asking(says: Result<Review, NoReview>) -> (Accounts, Arc<Server>) {
        let server = Arc::new(Server { says: Mutex::new(says), asked: AtomicUsize::new(0) });
        let accounts = Accounts::new(DEFAULT_AUDIENCE);
        accounts.follow("one", server.clone());
        (accounts, server)
    }

    #[tokio::test]
    async fn the_account_is_what_the_server_says_and_is_believed_no_longer_than_the_token_lives() {
        let (accounts, server) = asking(Ok(good()));
        // What it says of itself does not count.
        let lives = token(r#"{"exp": 1000004, "sub": "system:serviceaccount:kube-system:admin"}"#);
        let proved = accounts.prove(&lives, None, at(NOW)).await.unwrap();
        assert_eq!((proved.namespace.as_str(), proved.name.as_str(), &*proved.cluster), ("tok", "web", "one"));
        assert_eq!(proved.pod, Some(BoundPod { name: "web-0".into(), uid: "ffd53054".into() }));
        *server.says.lock() = Ok(Review { error: "[gone]".into(), ..Review::default() });
        assert!(accounts.prove(&lives, Some("one"), at(NOW + 3)).await.is_ok());
        assert_eq!(server.asked.load(Ordering::Relaxed), 1);
        assert_eq!(accounts.prove(&lives, None, at(NOW + 4)).await, Err(Unproved::Expired));

        *server.says.lock() = Ok(good());
        let long = token(r#"{"exp": 1003600.5}"#);
        assert!(accounts.prove(&long, None, at(NOW)).await.is_ok());
        *server.says.lock() = Ok(Review { error: "[pod web-0 not found]".into(), ..Review::default() });
        assert!(accounts.prove(&long, None, at(NOW + 9)).await.is_ok());
        let refused = accounts.prove(&long, None, at(NOW + 10)).await.unwrap_err();
        assert!(refused.to_string().contains("[pod web-0 not found]"), "{refused}");
    }

    #[tokio::test]
    async fn what_no_server_vouches_for_is_no_proof() {
        let (accounts, server) = asking(Ok(good()));
        let token = token(r#"{"exp": 2000000}"#);
        let of = |review: Review| {
            *server.says.lock() = Ok(review);
            accounts.prove(&token, None, at(NOW))
        };
        let refused = Unproved::Refused { cluster: "one".into(), why: "it is not good".into() };
        assert_eq!(of(Review { authenticated: false, ..good() }).await, Err(refused));
        let audience = Err(Unproved::Audience(DEFAULT_AUDIENCE.into()));
        assert_eq!(of(Review { audiences: Vec::new(), ..good() }).await, audience);
        assert_eq!(of(Review { audiences: vec!["other".into()], ..good() }).await, audience);
        for username in ["kubernetes-admin", "system:node:node-a", "system:serviceaccount:tok"] {
            let user = User { username: username.into(), ..good().user };
            assert_eq!(of(Review { user, ..good() }).await, Err(Unproved::NoAccount(username.into())));
        }
        let user = User { groups: vec!["system:masters".into()], ..good().user };
        assert!(matches!(of(Review { user, ..good() }).await, Err(Unproved::NoAccount(_))));
        *server.says.lock() = Err(NoReview("connection refused".into()));
        let error = accounts.prove(&token, None, at(NOW)).await.unwrap_err();
        assert!(matches!(error, Unproved::NoAnswer { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_cluster_that_is_not_followed_is_not_asked() {
        let (accounts, server) = asking(Ok(good()));
        let token = token(r#"{"exp": 2000000}"#);
        let unknown = accounts.prove(&token, Some("two"), at(NOW)).await;
        assert_eq!(unknown, Err(Unproved::UnknownCluster("two".into())));
        assert!(accounts.prove(&token, Some("one"), at(NOW)).await.is_ok());
        assert!(
            accounts.prove(&token, Some("Kubernetes"), at(NOW)).await.is_ok(),
            "as a cluster without a name is called"
        );
        accounts.leave("one");
        assert_eq!(accounts.prove(&token, Some("one"), at(NOW)).await, Err(Unproved::NoCluster));
        assert_eq!(accounts.prove(&token, None, at(NOW)).await, Err(Unproved::NoCluster));
        assert_eq!(server.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_sent_on() {
        let (accounts, server) = asking(Ok(good()));
        let long = token(&format!(r#"{{"exp": 2000000, "x": "{}"}}"#, "x".repeat(LONGEST_TOKEN)));
        for bad in [
            "",
            "a",
            "a.b",
            "e30.e30.",
            "e30.e30.c2ln",
            "e30.!.c2ln",
            &long,
            &token(r#"{"exp": "soon"}"#),
            &token(r#"{"exp": -1}"#),
            &token(r#"{"exp": 1e300}"#),
            &format!("{}.x", token(r#"{"exp": 2000000}"#)),
            &format!("{} x", token(r#"{"exp": 2000000}"#)),
        ] {
            assert_eq!(accounts.prove(bad, None, at(NOW)).await, Err(Unproved::Malformed), "{bad}");
        }
        assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn reviews_as_a_server_writes_them() {
        let refused: Review = serde_json::from_value(serde_json::json!({
            "user": {}, "error": "[invalid bearer token, token lookup failed]"
        }))
        .unwrap();
        assert!(!refused.authenticated && refused.error.contains("lookup failed"));
        let good: Review = serde_json::from_value(serde_json::json!({
            "authenticated": true,
            "user": {
                "username": "system:serviceaccount:tok:web", "uid": "b0082f58",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:tok", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=93507"]}
            },
            "audiences": ["istio-ca"]
        }))
        .unwrap();
        let account = account(&"one".into(), DEFAULT_AUDIENCE, good).unwrap();
        assert_eq!((account.name.as_str(), account.pod), ("web", None));
    }
}
