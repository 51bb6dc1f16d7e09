//! The way back through the store: what it needs, and what is known afterwards.

use std::fs;

use super::store_tests::Place;

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
