//! Who gives way to whom, with time paused.

use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn slots(connections: usize, per_address: usize) -> Arc<Slots> {
    let bounds = Bounds {
        connections,
        per_address,
        spare: Spare::default(),
    };
    let counts = Arc::new(Connections::new(([127, 0, 0, 1], 1).into()));
    Arc::new(Slots::new(bounds, counts))
}

fn address(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

/// A connection of an address, which has a place.
#[track_caller]
fn open(slots: &Arc<Slots>, n: u8) -> Slot {
    match slots.place(address(n)) {
        Placed::Yes(slot) => slot,
        other => panic!("{n}: {other:?}"),
    }
}

fn set(slot: &Slot, class: Class, stage: Option<Stage>) {
    let now = clock::monotonic();
    slot.place().set(class, stage.map(|stage| (stage, now)));
}

fn gave_way(slots: &[Slot]) -> Vec<usize> {
    let gone = slots.iter().enumerate();
    gone.filter(|(_, slot)| slot.gave_way().is_cancelled())
        .map(|(at, _)| at)
        .collect()
}

fn closed(slots: &Slots, reason: CloseReason) -> u64 {
    Class::ALL
        .iter()
        .map(|class| slots.connections.closed(reason, *class))
        .sum()
}

#[tokio::test(start_paused = true)]
async fn the_oldest_without_a_request_gives_way() {
    let slots = slots(4, 4);
    let mut all = Vec::new();
    for n in 0..4 {
        all.push(open(&slots, n));
        advance(SECOND / 1000).await;
    }
    set(&all[0], Class::Anonymous, Some(Stage::Idle));
    set(&all[1], Class::Authenticated, None);
    all.push(open(&slots, 5));
    assert_eq!(gave_way(&all), [2]);
    all.push(open(&slots, 6));
    assert_eq!(gave_way(&all), [2, 3]);
    // A flood displaces itself.
    for n in 7..100 {
        all.push(open(&slots, n));
    }
    assert_eq!(gave_way(&all).len(), 95);
    assert!(!all[0].gave_way().is_cancelled());
    assert!(!all[1].gave_way().is_cancelled());
    assert_eq!(closed(&slots, CloseReason::GaveWay), 95);
    let open = Class::ALL.map(|class| slots.connections.open(class));
    assert_eq!(open, [2, 1, 1]);
    drop(all);
    let open = Class::ALL.map(|class| slots.connections.open(class));
    assert_eq!(open, [0, 0, 0]);
    assert!(slots.lock().addresses.is_empty());
    assert!(slots.lock().crowds.iter().all(BTreeSet::is_empty));
    assert!(slots.lock().candidates.iter().all(BTreeSet::is_empty));
}

/// Senders that fill the server from few addresses give way before one with one connection.
#[tokio::test(start_paused = true)]
async fn the_address_with_the_most_gives_way_first() {
    let slots = slots(6, 6);
    let mut all = vec![open(&slots, 1)];
    advance(SECOND / 10).await;
    for _ in 0..5 {
        all.push(open(&slots, 9));
    }
    // They are further than the sender, whose first request has not begun.
    for slot in &all[1..] {
        set(slot, Class::Unfinished, Some(Stage::First));
    }
    all.push(open(&slots, 2));
    assert_eq!(gave_way(&all), [1]);
    // What comes from the crowd does not displace the two, nor what is spared.
    assert!(matches!(slots.place(address(9)), Placed::Full));
    advance(Spare::default().first).await;
    all.push(open(&slots, 9));
    assert_eq!(gave_way(&all).len(), 2);
    assert!(!all[0].gave_way().is_cancelled());
    assert!(!all[6].gave_way().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_or_has_a_token_never_gives_way() {
    let slots = slots(2, 2);
    let (one, other) = (open(&slots, 1), open(&slots, 2));
    set(&one, Class::Authenticated, None);
    set(&other, Class::Anonymous, None);
    advance(100 * SECOND).await;
    assert!(matches!(slots.place(address(3)), Placed::Full));
    // When no more are taken, the one that waits is served beside them.
    let last = slots.place_last(address(3));
    assert!(matches!(last, Placed::Yes(_)));
    assert!(!one.gave_way().is_cancelled() && !other.gave_way().is_cancelled());
    drop((last, one));
    let _third = open(&slots, 3);
    assert!(!other.gave_way().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn idle_connections_give_way_to_who_has_fewer_or_after_a_while() {
    let slots = slots(3, 3);
    let mut all: Vec<_> = [1, 1, 2].map(|n| open(&slots, n)).into();
    for slot in &all {
        set(slot, Class::Anonymous, Some(Stage::Idle));
    }
    all.push(open(&slots, 3));
    assert_eq!(gave_way(&all), [0]);
    set(&all[3], Class::Anonymous, Some(Stage::Idle));
    // Now each has one.
    assert!(matches!(slots.place(address(2)), Placed::Full));
    advance(Spare::default().idle).await;
    all.push(open(&slots, 2));
    assert_eq!(gave_way(&all).len(), 2);
    // A later request that does not end is no place for good either.
    for slot in &all {
        set(slot, Class::Anonymous, Some(Stage::Again));
    }
    assert!(matches!(slots.place(address(2)), Placed::Full));
    advance(Spare::default().again).await;
    all.push(open(&slots, 2));
    assert_eq!(gave_way(&all).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_address_has_a_share() {
    let slots = slots(4, 2);
    let mut all = vec![open(&slots, 1), open(&slots, 1)];
    // Its own silent connection gives way ...
    all.push(open(&slots, 1));
    assert_eq!(gave_way(&all), [0]);
    assert_eq!(closed(&slots, CloseReason::PerAddress), 1);
    // ... and if there is none, the new one is closed.
    for slot in &all[1..] {
        set(slot, Class::Anonymous, None);
    }
    assert!(matches!(slots.place(address(1)), Placed::Refused));
    let mapped = "::ffff:192.0.2.1".parse().unwrap();
    assert!(matches!(slots.place(mapped), Placed::Refused));
    assert_eq!(closed(&slots, CloseReason::PerAddress), 3);
    let _others = [open(&slots, 2), open(&slots, 3)];
    assert!(matches!(slots.place(address(1)), Placed::Refused));
}

#[test]
fn ipv6_counts_by_its_64() {
    let key = |text: &str| address_key(text.parse().unwrap()).to_string();
    assert_eq!(key("192.0.2.1"), "192.0.2.1");
    assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(key("::1"), "::");
}
