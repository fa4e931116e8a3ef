//! A case: what a client sends, what servers answer, the configuration between.

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What is tried; unique.
    pub(crate) name: &'static str,
    /// What the client sends, in the notation of [`crate::text`].
    pub(crate) send: &'static str,
    /// Where it goes in.
    pub(crate) via: Via,
    /// Who the client is, in a certificate of the mesh's root; none: a host that has joined.
    pub(crate) identity: &'static str,
    /// What the client speaks.
    pub(crate) speaks: Speaks,
    /// How many final answers it waits for.
    pub(crate) answers: usize,
    /// The protocol that the service's port declares.
    pub(crate) protocol: &'static str,
    /// What the servers answer, try by try; the last one stays.
    pub(crate) serve: &'static [&'static str],
    /// Servers behind the service.
    pub(crate) servers: Servers,
    /// Which of several servers takes a request is left to chance.
    pub(crate) either: bool,
    /// How many requests servers must have seen at the end, in whatever order; 0: those that are there.
    pub(crate) arrive: usize,
    /// More Istio resources; `{host}` and `{name}` are the case's own.
    pub(crate) yaml: &'static str,
    /// What the ServiceEntry says, in place of the usual: its `spec` in one line. `{address}` is the service's own, `{servers}`
    /// the servers', `{named}` a name for it, `{port1}` and `{port2}` are their ports, `{range}` is a range of addresses.
    pub(crate) entry: &'static str,
    /// Where the client's connections go.
    pub(crate) at: At,
    /// What the servers speak beneath.
    pub(crate) tls: Tls,
    /// The name that the client asks for in TLS of its own; none: it speaks none.
    pub(crate) asks_for: &'static str,
    /// How our answer differs on purpose.
    pub(crate) kept: Option<Kept>,
}

/// Where a client's connection goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The caller's own proxy.
    Outbound,
    /// The server's proxy, in plaintext.
    Inbound,
    /// The server's proxy, with a certificate of the mesh.
    Mutual,
}

/// Where a client's connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// To the service's address, port 80.
    Address,
    /// To the first server itself.
    Server,
    /// To the port of the second server, where nobody may be.
    Second,
    /// Into the range, port 80.
    Range,
    /// As without it; behind the proxy is a Unix socket, a file and an abstract one.
    Socket,
    /// To the host itself, the port of the first server: to a listener that a Sidecar has its proxy bind. Callers of the host's
    /// own go by the loopback, others to its address.
    Own,
}

/// TLS of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// None.
    No,
    /// With a certificate for `server.test` and the service.
    Plain,
    /// The same, which its root has revoked.
    Revoked,
    /// They want one of the client, too.
    Mutual,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1, byte by byte.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What is behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// One server, `version: v1`.
    One,
    /// Two, `version: v1` and `version: v2`.
    Two,
    /// An endpoint that refuses connections.
    Refusing,
    /// No endpoint.
    Nobody,
}

/// A difference from Envoy that is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// The entry of docs/envoy.md that gives the reason.
    pub(crate) because: &'static str,
    /// The difference: lines of ours with `-`, of Envoy's with `+`.
    pub(crate) exactly: &'static str,
}

/// A request of HTTP/1 through the caller's own proxy, to one server that says `ok`.
pub(crate) const fn case(name: &'static str, send: &'static str) -> Case {
    Case {
        name,
        send,
        via: Via::Outbound,
        identity: "",
        speaks: Speaks::Http1,
        answers: 1,
        protocol: "HTTP",
        serve: &[],
        servers: Servers::One,
        either: false,
        arrive: 0,
        yaml: "",
        entry: "",
        at: At::Address,
        tls: Tls::No,
        asks_for: "",
        kept: None,
    }
}

/// The same of HTTP/2.
pub(crate) const fn http2(name: &'static str, send: &'static str) -> Case {
    let mut case = case(name, send);
    case.speaks = Speaks::Http2;
    case
}

impl Case {
    /// The client sends this.
    pub(crate) const fn sends(mut self, send: &'static str) -> Self {
        self.send = send;
        self
    }

    /// The server answers so.
    pub(crate) const fn serve(mut self, tries: &'static [&'static str]) -> Self {
        self.serve = tries;
        self
    }

    /// The client waits for so many final answers.
    pub(crate) const fn answers(mut self, answers: usize) -> Self {
        self.answers = answers;
        self
    }

    /// The service's port declares this protocol.
    pub(crate) const fn port(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// Other servers.
    pub(crate) const fn to(mut self, servers: Servers) -> Self {
        self.servers = servers;
        self
    }

    /// Which server takes a request does not matter.
    pub(crate) const fn either(mut self) -> Self {
        self.either = true;
        self
    }

    /// So many requests arrive at servers, some of them when the client has its answer.
    pub(crate) const fn arrive(mut self, requests: usize) -> Self {
        self.arrive = requests;
        self
    }

    /// It comes to the server's proxy in plaintext.
    pub(crate) const fn inbound(mut self) -> Self {
        self.via = Via::Inbound;
        self
    }

    /// It comes to the server's proxy over mTLS.
    pub(crate) const fn mutual(mut self) -> Self {
        self.via = Via::Mutual;
        self
    }

    /// The same, with a certificate of somebody else.
    pub(crate) const fn who(mut self, identity: &'static str) -> Self {
        self.via = Via::Mutual;
        self.identity = identity;
        self
    }

    /// With these resources.
    pub(crate) const fn with(mut self, yaml: &'static str) -> Self {
        self.yaml = yaml;
        self
    }

    /// Its ServiceEntry says this.
    pub(crate) const fn entry(mut self, spec: &'static str) -> Self {
        self.entry = spec;
        self
    }

    /// The client's connections go there.
    pub(crate) const fn at(mut self, at: At) -> Self {
        self.at = at;
        self
    }

    /// Its servers speak TLS.
    pub(crate) const fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Its client speaks TLS with the servers, and asks for this name.
    pub(crate) const fn asks_for(mut self, name: &'static str) -> Self {
        self.asks_for = name;
        self
    }

    /// The two differ, exactly so, for the reason that docs/envoy.md gives under this word.
    pub(crate) const fn kept(mut self, because: &'static str, exactly: &'static str) -> Self {
        self.kept = Some(Kept { because, exactly });
        self
    }
}
