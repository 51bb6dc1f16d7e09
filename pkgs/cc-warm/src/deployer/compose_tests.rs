//! What the gate sees of rendered compose files.

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
    assert_eq!(rendering.volumes["data"], set(&["app:/data", "db:/var/data (read-only)"]));
    assert_eq!(rendering.volumes["(anonymous)"], set(&["app:/scratch"]));
    let kept_elsewhere = ["volume nfs with o=addr=a, type=nfs", "volume limited with size=10G"];
    let bound = ["bind /etc/hostname at app:/host (read-only)"];
    assert_eq!(rendering.binds, set(&[&bound[..], &kept_elsewhere].concat()));
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

#[test]
fn a_volume_with_another_name_in_docker_is_another_volume() {
    let with = |volumes: &str| {
        let yaml = format!(
            "services: {{app: {{volumes: [{{type: volume, source: data, target: /d}}]}}}}\nvolumes: {volumes}\n"
        );
        Compose::parse(&yaml).unwrap().rendering("s")
    };
    let own = with("{data: {}}");
    assert_eq!(own, with("{data: {name: s_data}}"));
    for other in ["{data: {name: s_db}}", "{data: {name: other_data}}", "{data: {name: data, external: true}}"] {
        assert_ne!(own.volumes, with(other).volumes, "{other}");
    }
    let secret = |password: &str| {
        with(&format!("{{data: {{driver_opts: {{type: cifs, o: 'username=u,password={password}', device: //h/s}}}}}}"))
    };
    let (one, other) = (secret("hunter2"), secret("hunter3"));
    assert!(one.binds != other.binds && !format!("{one:?}").contains("hunter2"), "{one:?}");
    let host = with("{data: {driver_opts: {type: none, o: bind, device: /}}}");
    assert_eq!(host.binds, set(&["volume data with device=/, o=bind, type=none"]));
}

#[test]
fn another_folder_of_a_volume_is_another_place() {
    let with = |options: &str| {
        let mount = format!("{{type: volume, source: data, target: /d, volume: {{{options}}}}}");
        Compose::parse(&format!("services: {{app: {{volumes: [{mount}]}}}}\n")).unwrap().rendering("s").volumes
    };
    assert_eq!(with("subpath: a")["data"], set(&["app:/d from `a`"]));
    assert_eq!(with("nocopy: true"), with("subpath: ''"));
    for other in ["subpath: b", "nocopy: true"] {
        assert_ne!(with("subpath: a"), with(other), "{other}");
    }
}

#[test]
fn less_that_a_service_may_do_is_no_privilege() {
    let with = |option: &str| {
        let yaml = format!("services: {{app: {{security_opt: ['{option}']}}}}\n");
        Compose::parse(&yaml).unwrap().rendering("s").privileges
    };
    for option in ["no-new-privileges:true", "no-new-privileges=true", "no-new-privileges"] {
        assert_eq!(with(option), BTreeSet::new(), "{option}");
    }
    for option in ["no-new-privileges:false", "apparmor:unconfined", "seccomp=unconfined"] {
        assert_eq!(with(option).len(), 1, "{option}");
    }
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
