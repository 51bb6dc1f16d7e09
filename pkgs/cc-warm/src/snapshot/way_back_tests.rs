//! The way back through the store: what it needs, and what is known afterwards.

use std::fs;

use super::record::SnapshotId;
use super::store_tests::{Place, at, wait_for_the_clock, work};

#[test]
fn the_way_back_takes_the_blocks_of_a_snapshot_whatever_its_manifest_says() {
    let place = Place::new(&["a"]);
    let data = place.volumes[0].data();
    let map = fs::File::create(data.join("map")).unwrap();
    map.set_len(1 << 40).unwrap();
    for n in 0..2000 {
        fs::write(data.join(n.to_string()), [7; 100]).unwrap();
    }
    let live = place.store.preflight(&place.volumes, 0, None).unwrap().holds();
    let mut snapshot = place.take("one");
    // Lengths, as cc-warm counted what it took over; and bytes of content, as it counted what it copied.
    for bytes in [1 << 40, 200_000] {
        snapshot.volumes[0].bytes = bytes;
        let preflight = place.store.preflight_back(&place.volumes, &snapshot).unwrap();
        assert_eq!(preflight.refusal(), None);
        let back = preflight.holds();
        assert_eq!(back.entries, live.entries);
        assert!(back.bytes.abs_diff(live.bytes) < live.bytes / 10, "{back:?} {live:?}");
    }
}

#[test]
fn after_a_restore_the_next_snapshot_takes_over_from_the_one_that_was_restored() {
    let place = Place::new(&["a"]);
    let data = place.volumes[0].data();
    if super::tree::file_system(fs::File::open(&data).unwrap()).unwrap() == "tmpfs" {
        return;
    }
    for n in 0..2000 {
        fs::write(data.join(n.to_string()), n.to_string()).unwrap();
    }
    place.take_and_promote("one", at(0));
    fs::write(data.join("7"), "changed").unwrap();
    let exchanges = place.store.build(&SnapshotId::new("one"), &place.volumes, "op", work()).unwrap();
    exchanges[0].perform(&place.volumes[0], "op").unwrap();
    wait_for_the_clock();
    fs::write(data.join("8"), "changed").unwrap();
    let two = place.take("two");
    // All inodes are new. What was made right before the record was is too young.
    assert!(two.volumes[0].taken_over > 1000, "{two:?}");
    let copy = |n: &str| fs::read_to_string(place.store.folder(&two.id).join("volumes/a").join(n)).unwrap();
    assert_eq!((copy("7").as_str(), copy("8").as_str()), ("7", "changed"));
}
