use super::*;

const LEASE: Duration = Duration::from_secs(5);

struct Mesh {
    leases: Leases,
    now: Instant,
    alive: BTreeSet<Arc<str>>,
    ticks: usize,
}

impl Mesh {
    /// Hosts `<service>-<n>`, all connected.
    fn new(services: &[(&str, usize)]) -> Self {
        let mut mesh = Self { leases: Leases::new(LEASE), now: Instant::now(), alive: BTreeSet::new(), ticks: 0 };
        for (service, count) in services {
            for n in 0..*count {
                let id: Arc<str> = format!("{service}-{n}").into();
                mesh.leases.add(id.clone(), [Arc::from(*service)].into(), State::New, mesh.now);
                assert!(mesh.leases.open(&id, mesh.now));
                mesh.alive.insert(id);
            }
        }
        mesh
    }

    /// Time passes; living hosts renew each at its own moment of a heartbeat.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let step = Duration::from_millis(50);
        while self.now < end {
            self.now += step;
            self.ticks += 1;
            for id in &self.alive {
                let own = id.bytes().map(usize::from).sum::<usize>() * 7;
                if (self.ticks + own).is_multiple_of(33) {
                    self.leases.renew(id, self.now);
                }
            }
            if self.leases.next().is_some_and(|at| at <= self.now) {
                self.leases.tick(self.now);
            }
        }
    }

    fn cut(&mut self, ids: &[&str]) {
        for id in ids {
            assert!(self.alive.remove(*id));
        }
    }

    fn states(&self, ids: &[&str]) -> Vec<State> {
        ids.iter().map(|id| self.leases.state(id).unwrap()).collect()
    }
}

#[test]
fn one_of_three_is_out_after_its_lease() {
    let mut mesh = Mesh::new(&[("reviews", 3)]);
    mesh.pass(Duration::from_secs(20));
    mesh.cut(&["reviews-1"]);
    mesh.pass(Duration::from_millis(3000));
    assert_eq!(mesh.states(&["reviews-1"]), [State::Connected]);
    mesh.pass(Duration::from_millis(2500));
    assert_eq!(
        mesh.states(&["reviews-0", "reviews-1", "reviews-2"]),
        [State::Connected, State::Lapsed, State::Connected]
    );
    assert!(!mesh.leases.is_frozen());
}

#[test]
fn four_of_ten_at_once_are_frozen_and_never_sent_out_as_dead() {
    let mut mesh = Mesh::new(&[("reviews", 10)]);
    mesh.pass(Duration::from_secs(10));
    let cut = ["reviews-1", "reviews-3", "reviews-5", "reviews-7"];
    mesh.cut(&cut);
    for _ in 0..200 {
        mesh.pass(Duration::from_millis(50));
        for state in mesh.states(&cut) {
            assert!(matches!(state, State::Connected | State::Degraded), "{state:?}");
        }
    }
    assert_eq!(mesh.states(&cut), [State::Degraded; 4]);
    assert!(mesh.leases.is_frozen());
    assert_eq!(mesh.leases.freezes(), 1);
    for id in cut {
        mesh.alive.insert(id.into());
    }
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.states(&cut), [State::Connected; 4]);
    assert!(!mesh.leases.is_frozen());
}

#[test]
fn all_of_a_service_stay_as_they_were() {
    let mut mesh = Mesh::new(&[("reviews", 2), ("ratings", 8)]);
    mesh.pass(Duration::from_secs(10));
    let cut = ["reviews-0", "reviews-1"];
    mesh.cut(&cut);
    for _ in 0..400 {
        mesh.pass(Duration::from_millis(50));
        for state in mesh.states(&cut) {
            assert!(matches!(state, State::Connected | State::Kept), "{state:?}");
        }
    }
    assert_eq!(mesh.leases.frozen_services(), [Arc::from("reviews")].into());
    // One comes back: the other is no longer the last hope.
    mesh.alive.insert("reviews-0".into());
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.states(&cut), [State::Connected, State::Degraded]);
}

#[test]
fn a_late_heartbeat_beside_a_dead_host_freezes_nothing_for_long() {
    let mut mesh = Mesh::new(&[("reviews", 2)]);
    mesh.pass(Duration::from_secs(10));
    mesh.cut(&["reviews-0"]);
    mesh.pass(Duration::from_millis(2500));
    // The other one pauses, and is heard again just after the first one lapsed.
    mesh.cut(&["reviews-1"]);
    mesh.pass(Duration::from_millis(2800));
    assert_eq!(mesh.states(&["reviews-1"]), [State::Connected]);
    mesh.alive.insert("reviews-1".into());
    mesh.leases.renew("reviews-1", mesh.now);
    mesh.pass(Duration::from_millis(1000));
    assert_eq!(mesh.states(&["reviews-0", "reviews-1"]), [State::Lapsed, State::Connected]);
}

#[test]
fn what_lapses_one_by_one_is_out() {
    let mut mesh = Mesh::new(&[("reviews", 10)]);
    for id in ["reviews-0", "reviews-1", "reviews-2", "reviews-3", "reviews-4"] {
        mesh.cut(&[id]);
        mesh.pass(Duration::from_secs(15));
        assert_eq!(mesh.states(&[id]), [State::Lapsed]);
    }
    assert!(!mesh.leases.is_frozen());
}

#[test]
fn fifteen_percent_is_not_over_it() {
    let mut mesh = Mesh::new(&[("reviews", 20)]);
    mesh.pass(Duration::from_secs(10));
    mesh.cut(&["reviews-0", "reviews-1", "reviews-2"]);
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.states(&["reviews-0", "reviews-1", "reviews-2"]), [State::Lapsed; 3]);
}

#[test]
fn leaving_works_in_a_freeze() {
    let mut mesh = Mesh::new(&[("reviews", 10)]);
    mesh.cut(&["reviews-0", "reviews-1", "reviews-2", "reviews-3"]);
    mesh.pass(Duration::from_secs(8));
    assert!(mesh.leases.is_frozen());
    assert!(mesh.leases.drain("reviews-5", mesh.now));
    assert_eq!(mesh.states(&["reviews-5"]), [State::Draining]);
    assert!(mesh.leases.away("reviews-5", mesh.now));
    mesh.cut(&["reviews-5"]);
    mesh.pass(Duration::from_secs(8));
    assert_eq!(mesh.states(&["reviews-5"]), [State::Away]);
}

#[test]
fn after_a_start_every_lease_has_its_grace() {
    let now = Instant::now();
    let mut leases = Leases::new(LEASE);
    for (n, state) in [State::Grace, State::Grace, State::Lapsed, State::New].into_iter().enumerate() {
        leases.add(format!("h{n}").into(), [Arc::from("s")].into(), state, now);
    }
    leases.open("h0", now + Duration::from_secs(1));
    leases.renew("h0", now + Duration::from_secs(29));
    leases.tick(now + Duration::from_secs(29));
    assert_eq!(leases.state("h1"), Some(State::Grace));
    leases.tick(now + Duration::from_secs(31));
    assert_eq!(leases.state("h0"), Some(State::Connected));
    assert_eq!(leases.state("h1"), Some(State::Lapsed));
    assert_eq!(leases.state("h2"), Some(State::Lapsed));
    assert_eq!(leases.state("h3"), Some(State::New));
}

#[test]
fn a_lapse_is_believed_when_the_last_living_host_of_its_service_leaves_in_order() {
    let mut mesh = Mesh::new(&[("reviews", 2), ("ratings", 3)]);
    mesh.pass(Duration::from_secs(20));
    mesh.cut(&["reviews-1"]);
    mesh.pass(LEASE + Duration::from_secs(1));
    assert_eq!(mesh.states(&["reviews-1"]), [State::Lapsed]);
    mesh.leases.drain("reviews-0", mesh.now);
    mesh.pass(Duration::from_millis(300));
    mesh.cut(&["reviews-0"]);
    mesh.leases.remove("reviews-0");
    mesh.pass(Duration::from_secs(20));
    assert_eq!(mesh.states(&["reviews-1"]), [State::Lapsed]);
}
