//! Renderings as docker writes them.

use super::*;

/// As docker 28 renders it.
const RENDERED: &str = r#"version: "3.8"
services:
  app:
    cap_add:
      - NET_ADMIN
    configs:
      - source: conf
        target: /etc/conf
    deploy:
      labels:
        coop-cloud.abx_test.timeout: "300"
        coop-cloud.abx_test.version: 1.0.0+1
    environment:
      GREETING: x
    image: bb:1
    networks:
      internal: null
      proxy: null
    ports:
      - mode: ingress
        target: 80
        published: 18099
        protocol: tcp
    secrets:
      - source: pw
    user: "0"
    volumes:
      - type: volume
        source: data
        target: /data
      - type: volume
        target: /scratch
      - type: bind
        source: /etc/hostname
        target: /host
        read_only: true
  db:
    image: db:2
    volumes:
      - type: volume
        source: data
        target: /var/data
        read_only: true
      - type: volume
        source: nfs
        target: /nfs
      - type: tmpfs
        target: /tmp
networks:
  internal: {}
  proxy:
    external: true
volumes:
  data: {}
  nfs:
    driver_opts:
      type: nfs
      o: addr=a
  limited:
    driver_opts:
      size: 10G
  shared:
    name: other_shared
    external: true
secrets:
  pw:
    name: abx_test_pw_v1
    external: true
configs:
  conf:
    name: abx_test_conf_v1
    file: /tmp/exp/conf.txt
"#;

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

#[test]
fn reads_what_docker_renders() {
    let compose = Compose::parse(RENDERED).unwrap();
    assert_eq!(compose.services(), set(&["app", "db"]));
    assert_eq!(compose.version_label("abx_test").as_deref(), Some("1.0.0+1"));
    assert_eq!(compose.version_label("other"), None);
    assert_eq!(compose.secrets(), BTreeMap::from([("pw".to_owned(), "abx_test_pw_v1".to_owned())]));
    assert_eq!(compose.configs(), BTreeMap::new());
    let rendering = compose.rendering("abx_test");
    assert_eq!(rendering.images, set(&["bb:1", "db:2"]));
    assert_eq!(rendering.volumes["abx_test_data"], set(&["app:/data", "db:/var/data (read-only)"]));
    assert_eq!(rendering.volumes["(anonymous)"], set(&["app:/scratch"]));
    assert_eq!(
        rendering.binds,
        set(&[
            "bind /etc/hostname at app:/host (read-only)",
            "volume abx_test_limited with size=10G",
            "volume abx_test_nfs with o=addr=a type=nfs",
        ])
    );
    assert_eq!(rendering.external, set(&["network proxy", "volume other_shared"]));
    assert_eq!(rendering.privileges, set(&["app: cap_add NET_ADMIN", "app: user 0"]));
    assert_eq!(rendering.ports, set(&["app: 18099 → 80/tcp (ingress)"]));
}

#[test]
fn knows_volumes_that_cannot_be_snapshotted() {
    let compose = Compose::parse(RENDERED).unwrap();
    assert_eq!(compose.unsuitable_volume("data"), None);
    assert!(compose.unsuitable_volume("nfs").unwrap().contains("type"));
    assert_eq!(compose.unsuitable_volume("limited").unwrap(), LIMITED);
    assert!(compose.unsuitable_volume("shared").unwrap().contains("external"));
    assert_eq!(compose.volume_name("abx_test", "data"), "abx_test_data");
    assert_eq!(compose.volume_name("abx_test", "shared"), "other_shared");
}

/// What the gate says of `volume` becoming `changed`; nothing: it would pass.
fn says(volume: &str, changed: &str) -> Vec<String> {
    let stack = |volume: &str| {
        let yaml = format!(
            "services:\n  db:\n    volumes:\n    - {{type: volume, source: data, target: /d}}\nvolumes:\n  data: {volume}\n"
        );
        Compose::parse(&yaml).unwrap().rendering("mine")
    };
    let reasons = crate::gate::differences::between(&stack(volume), &stack(changed), &BTreeMap::new());
    reasons.iter().map(crate::gate::Reason::sentence).collect()
}

#[test]
fn a_volume_of_another_name_or_place_is_another_volume() {
    // Docker's own name for it, said aloud, is no change.
    assert_eq!(says("{}", "{name: mine_data}"), Vec::<String>::new());
    for other in ["mine_db", "data", "login_example_org_mariadb"] {
        let said = says("{}", &format!("{{name: {other}}}"));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().any(|said| said.contains(&format!("the volume `{other}`"))), "{said:?}");
    }
    let bind = "driver_opts: {type: none, o: bind, device: /}";
    assert_eq!(
        says("{}", &format!("{{{bind}}}")),
        ["it would gain a bind mount: volume mine_data with device=/ o=bind type=none"]
    );
    assert_eq!(says(&format!("{{{bind}}}"), &format!("{{{bind}}}")), Vec::<String>::new());
    assert_eq!(says("{}", "{driver: other}"), ["it would gain a bind mount: volume mine_data with driver other"]);
}

#[test]
fn passwords_of_a_volume_are_compared_and_not_told() {
    let cifs = |password: &str| {
        format!("{{driver_opts: {{type: cifs, o: 'username=u,password={password}', secretKey: {password}}}}}")
    };
    let [said] = &says(&cifs("hunter2"), &cifs("hunter3"))[..] else { panic!("a change of it is seen, once") };
    assert!(!said.contains("hunter3") && said.contains("username=u"), "{said}");
}

#[test]
fn an_empty_or_odd_rendering_is_no_panic() {
    for yaml in ["services: {}\n", "services:\n  app: null\n", "services: []\nvolumes: 3\n"] {
        let compose = Compose::parse(yaml).unwrap();
        assert_eq!(compose.rendering("s"), Rendering::default(), "{yaml}");
    }
    Compose::parse("a: [").unwrap_err();
}

#[test]
fn exported_versions_are_read_and_commands_are_not() {
    let script = "export A_VERSION=v3\nexport B=\"v1\"\nexport C=$(id)\nD=1\n  export E=1\nrun() { x; }\n";
    let expected = [("A_VERSION", "v3"), ("B", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(exports(script), BTreeMap::from(expected));
}
