use std::os::fd::AsFd as _;

use hawser_api::handover::{OUTBOUND, Serving};

use super::*;
use crate::config::ProxyUser;

const DRAIN: u32 = 3600;

/// An agent's side, and the address of its one socket.
struct World {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    addr: std::net::SocketAddr,
    state: watch::Receiver<ProxyState>,
    orders: mpsc::Sender<Order>,
    task: AbortOnDropHandle<()>,
}

/// A proxy as the wire shows it.
struct Proxy {
    stream: UnixStream,
    holds: Vec<(Listener, OwnedFd)>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addr =
            hawser_sockets::reuse_port_listener("127.0.0.1:0".parse().unwrap(), 1).unwrap().local_addr().unwrap();
        Self::at(dir, addr)
    }

    fn at(dir: tempfile::TempDir, addr: std::net::SocketAddr) -> Self {
        let socket = dir.path().join(SOCKET);
        let (orders, receiver) = mpsc::channel(4);
        let (keeper, state) = keeper(dir.path(), addr);
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(receiver)));
        Self { _dir: dir, socket, addr, state, orders, task }
    }

    /// As the agent is after a start of its own.
    async fn again(self) -> Self {
        let Self { _dir: dir, addr, task, .. } = self;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        Self::at(dir, addr)
    }

    async fn connect(&self, part: Part, version: &str, workers: u32) -> Proxy {
        self.connect_holding(part, version, workers, Vec::new()).await
    }

    async fn connect_holding(&self, part: Part, version: &str, workers: u32, holds: Vec<(Listener, OwnedFd)>) -> Proxy {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = Request {
            workers,
            version: version.into(),
            pid: 1,
            holds: holds.iter().map(|(listener, _)| listener.clone()).collect(),
            part,
            can_yield: version != "old",
        };
        let descriptors: Vec<_> = holds.iter().map(|(_, socket)| socket.as_fd()).collect();
        send_fds(&stream, &encode(&request), &descriptors).await.unwrap();
        Proxy { stream, holds }
    }

    /// One that serves.
    async fn proxy(&self, version: &str) -> Proxy {
        let mut proxy = self.connect(Part::Serves, version, 1).await;
        assert_eq!(proxy.sockets().await, 1);
        proxy
    }

    /// One that has taken over.
    async fn successor(&mut self, version: &str) -> Proxy {
        let mut proxy = self.connect(Part::TakesOver, version, 1).await;
        assert_eq!(proxy.sockets().await, 1);
        proxy.serves().await;
        assert_eq!(proxy.sockets().await, 0, "it lacks nothing");
        proxy
    }

    async fn until(&mut self, which: impl FnMut(&ProxyState) -> bool) {
        timeout(Duration::from_secs(5), self.state.wait_for(which)).await.unwrap().unwrap();
    }
}

fn keeper(dir: &Path, addr: std::net::SocketAddr) -> (Keeper, watch::Receiver<ProxyState>) {
    let socket = dir.join(SOCKET);
    let (publish, state) = watch::channel(ProxyState::default());
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let user = ProxyUser { uid, gid };
    let outbound = move |worker| Listener { name: OUTBOUND.into(), addr, worker, workload: None };
    let program =
        Program { binary: "/nowhere".into(), arguments: Vec::new(), user, pid_file: dir.join(child::HAWSER_PID) };
    let wanted = move |workers| (0..workers).map(outbound).collect();
    let keeper = Keeper {
        drain: DRAIN,
        act_at: None,
        external: Some(socket.clone()),
        ..Keeper::new(listen(&socket).unwrap(), program, publish, wanted)
    };
    (keeper, state)
}

impl Proxy {
    async fn told(&mut self) -> Option<Message> {
        let limits = FdLimits { bytes: LONGEST, descriptors: MOST };
        let (message, descriptors) =
            timeout(Duration::from_secs(5), recv_fds(&self.stream, limits)).await.unwrap().ok()?;
        let message = serde_json::from_slice(&message).unwrap();
        if let Message::Listeners(listeners) = &message {
            assert_eq!(listeners.len(), descriptors.len());
            self.holds.extend(listeners.iter().cloned().zip(descriptors));
        }
        Some(message)
    }

    /// How many sockets came.
    async fn sockets(&mut self) -> usize {
        match self.told().await {
            Some(Message::Listeners(listeners)) => listeners.len(),
            other => panic!("{other:?}"),
        }
    }

    async fn serves(&self) {
        send_fds(&self.stream, &encode(&Serving { serving: true }), &[]).await.unwrap();
    }

    /// Whether a connection to the mesh waits for it.
    fn accepts(&self) -> bool {
        let socket = std::net::TcpListener::from(self.holds[0].1.try_clone().unwrap());
        socket.set_nonblocking(true).unwrap();
        socket.accept().is_ok()
    }
}

fn end(end_within: u32, yields: bool) -> Option<Message> {
    Some(Message::End(End { end_within, yields }))
}

#[tokio::test]
async fn a_successor_gets_the_same_sockets_and_the_former_one_its_time() {
    let mut world = World::new();
    let mut old = world.proxy("1").await;
    let mut new = world.connect(Part::TakesOver, "2", 1).await;
    assert_eq!(new.sockets().await, 1);
    let _waiting = tokio::net::TcpStream::connect(world.addr).await.unwrap();
    assert_eq!(world.state.borrow().version, "1", "it does not serve yet");
    new.serves().await;
    assert_eq!(old.told().await, end(DRAIN, true));
    drop(old.holds);
    assert_eq!(new.sockets().await, 0);
    assert!(new.accepts(), "what waited for the former one");
    world.until(|state| state.version == "2" && state.phase == Phase::Running && state.former == 1).await;
    drop(old.stream);
    world.until(|state| state.former == 0).await;
    assert_eq!(world.state.borrow().restarts, 0);
}

#[tokio::test]
async fn a_successor_that_dies_early_is_forgotten() {
    let mut world = World::new();
    let mut old = world.proxy("1").await;
    let mut new = world.connect(Part::TakesOver, "2", 1).await;
    assert_eq!(new.sockets().await, 1);
    drop(new);
    // The next one may.
    let next = loop {
        let mut next = world.connect(Part::TakesOver, "3", 1).await;
        match next.told().await {
            Some(Message::Listeners(_)) => break next,
            Some(Message::Refused(_)) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(world.state.borrow().version, "1");
    next.serves().await;
    assert_eq!(old.told().await, end(DRAIN, true));
    world.until(|state| state.version == "3").await;
}

#[tokio::test]
async fn one_takes_over_at_a_time_and_is_told_why_it_may_not() {
    let world = World::new();
    let _old = world.proxy("1").await;
    let mut first = world.connect(Part::TakesOver, "2", 1).await;
    assert_eq!(first.sockets().await, 1);
    let mut second = world.connect(Part::TakesOver, "2", 1).await;
    let refused = Refused { refused: "another one takes over already".into() };
    assert_eq!(second.told().await, Some(Message::Refused(refused)));
    // One that does not say that it takes over is a second proxy, as ever.
    assert_eq!(world.connect(Part::Serves, "1", 1).await.told().await, None);
}

#[tokio::test]
async fn one_that_takes_over_while_none_runs_is_the_proxy() {
    let mut world = World::new();
    let mut new = world.connect(Part::TakesOver, "2", 1).await;
    assert_eq!(new.sockets().await, 1);
    new.serves().await;
    assert_eq!(new.sockets().await, 0);
    world.until(|state| state.version == "2" && state.phase == Phase::Running && state.former == 0).await;
}

#[tokio::test]
async fn one_that_takes_over_waits_for_the_one_that_runs_to_be_known() {
    let world = World::new();
    let _old = world.proxy("1").await;
    // A proxy is written down, and the agent starts again; it is our own process here, so another one stands for it.
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let world = world.again().await;
    let pid = i32::try_from(other.id()).unwrap();
    let user = ProxyUser { uid: 0, gid: 0 };
    let pid_file = world.socket.with_file_name(child::HAWSER_PID);
    Program { binary: PathBuf::new(), arguments: Vec::new(), user, pid_file }.note(pid);
    let refused = world.connect(Part::TakesOver, "2", 1).await.told().await;
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(matches!(&refused, Some(Message::Refused(no)) if no.refused.contains("not connected")), "{refused:?}");
}

#[tokio::test]
async fn a_former_proxy_of_a_version_that_can_not_make_room_gets_little_time() {
    let mut world = World::new();
    let mut old = world.proxy("old").await;
    let _new = world.successor("2").await;
    assert_eq!(old.told().await, end(UNABLE, true));
}

#[tokio::test]
async fn a_third_one_ends_the_oldest_and_leaving_ends_all() {
    let mut world = World::new();
    let mut one = world.proxy("1").await;
    let mut two = world.successor("2").await;
    let mut three = world.successor("3").await;
    let mut four = world.successor("4").await;
    assert_eq!((one.told().await, one.told().await, one.told().await), (end(DRAIN, true), end(0, false), None));
    assert_eq!((two.told().await, three.told().await), (end(DRAIN, true), end(DRAIN, true)));
    world.until(|state| state.former == 2).await;

    let (reply, answer) = oneshot::channel();
    world.orders.send(Order::Drain(Duration::from_secs(9), reply)).await.unwrap();
    for proxy in [&mut two, &mut three, &mut four] {
        assert_eq!(proxy.told().await, end(9, false));
    }
    drop((two, three, four));
    assert!(answer.await.unwrap(), "all have ended");
    world.until(|state| state.former == 0 && state.phase == Phase::Down).await;
}

#[tokio::test]
async fn an_agent_that_starts_again_tells_a_former_one_from_the_one_that_serves() {
    let mut world = World::new();
    let mut old = world.proxy("1").await;
    let new = world.successor("2").await;
    assert_eq!(old.told().await, end(DRAIN, true));
    let mut world = world.again().await;
    // The former one comes first.
    let mut old = world.connect(Part::Yields, "1", 1).await;
    world.until(|state| state.former == 1).await;
    assert_eq!(world.state.borrow().phase, Phase::Down, "it is not the proxy");
    let mut new = world.connect_holding(Part::Serves, "2", 1, new.holds).await;
    assert_eq!(new.sockets().await, 0, "it is adopted with what it holds");
    world.until(|state| state.version == "2").await;
    // It got nothing, and is ended as any other.
    let (reply, _answer) = oneshot::channel();
    world.orders.send(Order::Stop(reply)).await.unwrap();
    assert_eq!(old.told().await, end(0, false));
}

#[tokio::test]
async fn an_agent_that_starts_between_both_ends_what_was_begun() {
    let world = World::new();
    let old = world.proxy("1").await;
    let mut new = world.connect(Part::TakesOver, "2", 1).await;
    assert_eq!(new.sockets().await, 1);
    // It may go, and has not said so yet.
    let mut world = world.again().await;
    let mut old = world.connect_holding(Part::Serves, "1", 1, old.holds).await;
    assert_eq!(old.sockets().await, 0);
    let mut new = world.connect_holding(Part::TakesOver, "2", 1, new.holds).await;
    assert_eq!(new.sockets().await, 0);
    new.serves().await;
    assert_eq!(new.sockets().await, 0);
    assert_eq!(old.told().await, end(DRAIN, true));
    world.until(|state| state.version == "2" && state.former == 1).await;
}

#[tokio::test]
async fn one_with_more_workers_gets_their_sockets_when_it_serves_and_one_with_fewer_all() {
    let world = World::new();
    let _one = world.proxy("1").await;
    let mut two = world.connect(Part::TakesOver, "2", 2).await;
    assert_eq!(two.sockets().await, 1, "nobody would serve what comes to a second one");
    two.serves().await;
    assert_eq!(two.sockets().await, 1);
    let mut three = world.connect(Part::TakesOver, "3", 1).await;
    assert_eq!(three.sockets().await, 2, "connections may wait in both");
    three.serves().await;
    assert_eq!(three.sockets().await, 0);
}

#[tokio::test]
async fn an_agent_without_a_service_manager_replaces_what_another_version_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keeper, _state) = keeper(dir.path(), "127.0.0.1:0".parse().unwrap());
    let script = dir.path().join("proxy");
    std::fs::write(&script, "#!/bin/sh\necho \"$@\" >\"$0.new\"; mv \"$0.new\" \"$0.ran\"\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    keeper.program.binary.clone_from(&script);
    keeper.program.arguments = vec!["--run-dir".into(), "/r".into()];
    let ran = dir.path().join("proxy.ran");
    let (stream, _theirs) = UnixStream::pair().unwrap();
    let peer = |version: &str, stream| Peer { stream, pid: 1, version: version.into(), workers: 1, can_yield: true };
    let nothing = |keeper: &mut Keeper| {
        keeper.renew();
        !keeper.found
    };

    keeper.connection = Some(peer("0.0.1", stream));
    keeper.found = true;
    assert!(nothing(&mut keeper), "somebody else starts proxies");
    keeper.external = None;
    assert!(nothing(&mut keeper), "it was not there before us, or was tried already");
    keeper.found = true;
    if let Some(proxy) = &mut keeper.connection {
        proxy.version = OWN_VERSION.into();
    }
    assert!(nothing(&mut keeper), "it is of our version");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ran.exists());

    keeper.found = true;
    if let Some(proxy) = &mut keeper.connection {
        proxy.version = "0.0.1".into();
    }
    keeper.renew();
    let told = async {
        while !ran.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), told).await.unwrap();
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "--run-dir /r --take-over\n");
    assert_eq!(keeper.program.running(), None, "what starts the new one is not the proxy");
}
