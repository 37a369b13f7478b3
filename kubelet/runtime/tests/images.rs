//! Images from archives and registries: what is right comes whole, what is wrong is refused and leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use common::{File, IMAGE, Node, archive, busybox_layer, file, isolated, layer, link, shell};
use kubelet_runtime::cri::{Auth, ContainerConfig, Runtime};
use kubelet_runtime::images::{Mirror, Store, digest_of};
use serde_json::json;
use tar::EntryType;

fn load(layers: &[Vec<u8>]) -> Result<Vec<String>, String> {
    let directory = tempfile::tempdir().unwrap();
    load_bytes(directory.path(), &archive(layers, json!({}), &["t:1"]))
}

fn load_bytes(directory: &std::path::Path, bytes: &[u8]) -> Result<Vec<String>, String> {
    let store = Store::open(&directory.join("runtime"), Vec::new()).unwrap();
    std::fs::write(directory.join("a.tar"), bytes).unwrap();
    let loaded = store.load(&directory.join("a.tar")).map_err(|error| error.to_string());
    let unfinished = common::names(&directory.join("runtime/tmp"));
    assert_eq!(unfinished, Vec::<String>::new(), "nothing half-made is left");
    if loaded.is_err() {
        assert!(store.all().unwrap().by_id.is_empty());
    }
    loaded
}

#[test]
fn a_name_is_taken_off_and_an_image_goes_with_its_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Vec::new()).unwrap();
    let tar = directory.path().join("a.tar");
    std::fs::write(&tar, archive(&[busybox_layer()], json!({}), &["t:1", "t:2", "t:3"])).unwrap();
    store.load(&tar).unwrap();
    let tags = || store.status("t:3").unwrap().map(|image| image.repo_tags.len());
    assert!(!store.remove_name("t:4").unwrap());
    assert!(store.remove_name("t:1").unwrap());
    assert_eq!(tags(), Some(2));
    assert!(store.remove_name("t:2").unwrap() && store.remove_name("t:3").unwrap());
    assert_eq!((tags(), store.list().unwrap().len()), (None, 0));
    store.load(&tar).unwrap();
    let id = store.list().unwrap().remove(0).id;
    assert!(store.remove_name(&id.trim_start_matches("sha256:")[..12]).unwrap());
    assert!(store.list().unwrap().is_empty() && !store.remove_name(&id).unwrap());
}

#[test]
fn layers_that_lead_out_are_refused_or_stay_inside() {
    for name in ["../out", "a/../../out", "/../out"] {
        let error = load(&[layer(&[file(name, b"x", 0o644)])]).unwrap_err();
        assert!(error.contains("leads out of the layer"), "{name}: {error}");
    }
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().to_string_lossy().into_owned();
    let up = format!("{}{path}", "../".repeat(20));
    for target in [&path, &up] {
        let files = [link("escape", target), file("escape/planted", b"x", 0o644)];
        // The link leads to a directory of the layer, as it would in the container.
        assert!(load(&[layer(&files)]).is_ok() || load(&[layer(&files)]).is_err());
        assert_eq!(common::names(outside.path()), Vec::<String>::new());
    }
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let target = format!("{path}/secret");
    let hard = File { path: "stolen", kind: EntryType::Link, content: target.as_bytes(), mode: 0o644 };
    assert!(load(&[layer(&[hard])]).is_err());
    let hard = File { path: "stolen", kind: EntryType::Link, content: b"../../secret", mode: 0o644 };
    assert!(load(&[layer(&[hard])]).unwrap_err().contains("leads out of the layer"));
    for name in [".wh...", ".wh..", ".wh."] {
        assert!(load(&[layer(&[file(name, b"", 0o644)])]).is_err(), "{name}");
    }
}

#[test]
fn tampered_and_broken_archives_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = archive(&[layer(&[file("f", b"content", 0o644)])], json!({}), &["t:1"]);
    let mut tampered = whole.clone();
    let at = whole.windows(7).position(|window| window == b"content").unwrap();
    tampered[at] ^= 1;
    let error = load_bytes(directory.path(), &tampered).unwrap_err();
    assert!(error.contains("the digest of an unpacked layer is"), "{error}");
    let mut other_config = whole.clone();
    let at = whole.windows(5).position(|window| window == b"amd64").unwrap();
    other_config[at] ^= 1;
    let error = load_bytes(directory.path(), &other_config).unwrap_err();
    assert!(error.contains("image config"), "{error}");
    // A good image beside a bad one: neither is there.
    let good = archive(&[layer(&[file("g", b"good", 0o644)])], json!({}), &["good:1"]);
    for at in (0..whole.len()).step_by(257) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        // Padding and times do not matter; what is loaded is whole, or nothing is.
        if let Ok(names) = load_bytes(directory.path(), &flipped) {
            assert_eq!(names.len(), 1, "byte {at}");
            let store = Store::open(&directory.path().join("runtime"), Vec::new()).unwrap();
            store.remove(&names[0]).unwrap();
        }
    }
    assert!(load_bytes(directory.path(), &good[..good.len() / 2]).is_err());
    for bytes in [&whole[..whole.len() / 3], b"no tar at all".as_slice(), &[]] {
        assert!(load_bytes(directory.path(), bytes).is_err());
    }
    assert_eq!(load_bytes(directory.path(), &whole).unwrap(), ["docker.io/library/t:1"]);
}

/// An OCI image layout of one image of one gzipped layer, as `skopeo copy … oci-archive:` and buildkit write them.
fn oci_layout(name: &str) -> Vec<u8> {
    let plain = layer(&[file("f", b"content", 0o644)]);
    let packed = gzip(&plain);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest_of(&plain)] },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest_of(&packed), "size": packed.len() }],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest_of(&manifest), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name } }],
    });
    let index = serde_json::to_vec(&index).unwrap();
    let blob = |bytes: &[u8]| digest_of(bytes).replacen("sha256:", "blobs/sha256/", 1);
    let names = [blob(&packed), blob(&config), blob(&manifest)];
    let mut files =
        vec![file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644), file("index.json", &index, 0o644)];
    files.extend(names.iter().zip([&packed, &config, &manifest]).map(|(name, bytes)| file(name, bytes, 0o644)));
    layer(&files)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn image_layouts_load_also_when_the_archive_is_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let layout = oci_layout("docker.io/library/layout:1");
    for bytes in [layout.clone(), gzip(&layout)] {
        assert_eq!(load_bytes(directory.path(), &bytes).unwrap(), ["docker.io/library/layout:1"]);
        let store = Store::open(&directory.path().join("runtime"), Vec::new()).unwrap();
        let (_, record) = store.find("layout:1").unwrap().unwrap();
        let unpacked = store.layer_directories(&record).remove(0);
        assert_eq!(std::fs::read(unpacked.join("f")).unwrap(), b"content");
        store.remove("layout:1").unwrap();
    }
    let whole = gzip(&archive(&[layer(&[file("f", b"x", 0o644)])], json!({}), &["t:1"]));
    assert_eq!(load_bytes(directory.path(), &whole).unwrap(), ["docker.io/library/t:1"]);
    let empty = tempfile::tempdir().unwrap();
    assert!(load_bytes(empty.path(), &whole[..whole.len() / 2]).is_err(), "a torn one is refused");
}

/// Go's reader takes an empty number as 0, so there are archives with such.
#[test]
fn empty_numbers_of_a_header_are_zeros() {
    let mut bytes = layer(&[file("f", b"x", 0o644)]);
    // Mode, owner, group and time of the first header: 100–124 and 136–148; the sum at 148 is of what is there.
    bytes[100..124].fill(0);
    bytes[136..148].fill(b' ');
    bytes[329..345].fill(0);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(load(&[bytes]).unwrap(), ["docker.io/library/t:1"]);
}

#[test]
fn whiteouts_hide_and_links_hold_in_a_container() {
    isolated(|| async {
        let node = Node::new().await;
        let dir = |path| File { path, kind: EntryType::Directory, content: b"", mode: 0o755 };
        let lower = layer(&[
            dir("d"),
            file("d/gone", b"1", 0o644),
            file("d/kept", b"2", 0o644),
            dir("o"),
            file("o/old", b"3", 0o644),
            dir("r"),
            file("r/old", b"4", 0o644),
            file("one", b"same\n", 0o644),
            File { path: "two", kind: EntryType::Link, content: b"one", mode: 0o644 },
        ]);
        let upper = layer(&[
            file("d/.wh.gone", b"", 0o644),
            dir("o"),
            file("o/.wh..wh..opq", b"", 0o644),
            file("o/new", b"5", 0o644),
            file(".wh.r", b"", 0o644),
            dir("r"),
            file("r/new", b"6", 0o644),
            link("abs", "/d/kept"),
        ]);
        // Many layers, more than the classic mount call's one page of options would hold.
        let mut layers = vec![busybox_layer(), lower, upper];
        let names: Vec<String> = (0..70).map(|number| format!("many/{number}")).collect();
        layers.extend(names.iter().map(|name| layer(&[file(name, b"x", 0o644)])));
        let path = node.directory.path().join("image.tar");
        std::fs::write(&path, archive(&layers, json!({ "User": "app" }), &[IMAGE, "other:2"])).unwrap();
        assert_eq!(node.core.images().load(&path).unwrap().len(), 2);
        let status = node.core.image_status("busybox-test").await.unwrap().unwrap();
        assert_eq!((status.repo_tags.len(), status.uid, status.username.as_str()), (2, None, "app"));
        let sandbox = node.sandbox().await;
        let script = "ls d o r; cat abs two; ls many | wc -l; id -u; touch /tmp/x && ls -d /tmp | wc -l";
        let (_, log) = node.run(&sandbox, ContainerConfig { working_dir: "/".into(), ..shell(script) }).await;
        assert_eq!(log, "d:\nkept\n\no:\nnew\n\nr:\nnew\n2same\n70\n1000\n1\n");
        let id = node.start(&sandbox, "sleep 1000").await;
        node.core.remove_image(IMAGE).await.unwrap();
        node.core.remove_image(IMAGE).await.unwrap();
        assert!(node.core.image_status(IMAGE).await.unwrap().is_none());
        let output = node.core.exec_sync(&id, vec!["cat".into(), "/two".into()], 10).await.unwrap();
        assert_eq!(output.stdout, b"same\n", "a running container keeps its layers");
        node.remove(&sandbox).await;
    });
}

/// A registry that asks for a token.
struct Registry {
    blobs: BTreeMap<String, Vec<u8>>,
    token: Option<&'static str>,
    lie: Lie,
}

/// In what a registry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// A letter of the first layer is another.
    Layer,
    /// A letter of the config is another.
    Config,
    /// The manifest that the index names is another.
    Manifest,
    /// The layer is longer than its descriptor says, and still of its digest.
    Size,
    /// The manifest is no JSON.
    Rubbish,
    /// The manifest says that it is a picture.
    MediaType,
    /// The connection ends in the middle of the first layer.
    HalfWay,
    /// The config names more layers than the manifest.
    Layers,
    /// Blobs are answered with 500.
    Fails,
    /// Blobs are not there.
    Missing,
}

impl Registry {
    /// Serves the image as `library/app:1` through an index; returns HOST:PORT.
    fn serve(layers: &[Vec<u8>], token: Option<&'static str>, lie: Lie) -> String {
        use std::io::Read;
        let mut diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
        if lie == Lie::Layers {
            diff_ids.push(digest_of(b"more"));
        }
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let mut blobs = BTreeMap::new();
        let mut put = |bytes: Vec<u8>, media_type: &str| {
            let short = usize::from(lie == Lie::Size && media_type.contains("layer"));
            let size = bytes.len() - short;
            let descriptor = json!({ "mediaType": media_type, "digest": digest_of(&bytes), "size": size });
            blobs.insert(digest_of(&bytes), bytes);
            descriptor
        };
        let config = put(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let compressed: Vec<_> = layers
            .iter()
            .map(|layer| {
                let mut bytes = Vec::new();
                flate2::read::GzEncoder::new(layer.as_slice(), flate2::Compression::fast())
                    .read_to_end(&mut bytes)
                    .unwrap();
                put(bytes, "application/vnd.oci.image.layer.v1.tar+gzip")
            })
            .collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let kind = if lie == Lie::MediaType { "image/png" } else { kind };
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": compressed });
        let mut manifest = put(manifest.to_string().into_bytes(), kind);
        manifest["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [manifest] }).to_string().into_bytes();
        let wrong = match lie {
            Lie::Layer => Some(&compressed[0]),
            Lie::Config => Some(&config),
            Lie::Manifest => Some(&manifest),
            _ => None,
        };
        if let Some(descriptor) = wrong {
            // White space at the end changes the digest of JSON, and nothing else.
            let bytes = blobs.get_mut(descriptor["digest"].as_str().unwrap()).unwrap();
            if lie == Lie::Layer { *bytes.last_mut().unwrap() ^= 1 } else { bytes.push(b' ') }
        }
        blobs.insert("1".into(), if lie == Lie::Rubbish { b"rubbish".to_vec() } else { index });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Arc::new(Registry { blobs, token, lie });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let registry = Arc::clone(&registry);
                std::thread::spawn(move || registry.answer(stream));
            }
        });
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let host = stream.local_addr().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 {
            let path = line.split(' ').nth(1).unwrap().to_owned();
            let mut authorization = String::new();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("authorization: ") {
                    value.trim().clone_into(&mut authorization);
                }
            }
            let name = path.rsplit('/').next().unwrap();
            let allowed = self.token.is_none_or(|token| authorization == format!("bearer {token}"));
            let (status, extra, body) = if path.starts_with("/token") {
                // user:secret
                if authorization == "basic dxnlcjpzzwnyzxq=" {
                    ("200 OK", String::new(), json!({ "token": self.token }).to_string().into_bytes())
                } else {
                    ("401 Unauthorized", String::new(), b"{}".to_vec())
                }
            } else if !allowed {
                let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"r\"\r\n");
                ("401 Unauthorized", challenge, b"{}".to_vec())
            } else if path.contains("/blobs/") && self.lie == Lie::Fails {
                ("500 Internal Server Error", String::new(), b"{}".to_vec())
            } else if path.contains("/blobs/") && self.lie == Lie::Missing {
                ("404 Not Found", String::new(), b"{}".to_vec())
            } else if let Some(bytes) = self.blobs.get(name).filter(|_| path.contains("/library/app/")) {
                ("200 OK", String::new(), bytes.clone())
            } else if path == "/v2/" {
                ("200 OK", String::new(), b"{}".to_vec())
            } else {
                let body =
                    json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": "" }] });
                ("404 Not Found", String::new(), body.to_string().into_bytes())
            };
            let kind = String::from_utf8_lossy(&body)
                .split("\"mediaType\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .filter(|_| path.contains("manifests"))
                .unwrap_or("application/json")
                .to_owned();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: {kind}\r\n{extra}\r\n", body.len());
            let half = self.lie == Lie::HalfWay && path.contains("/blobs/") && body.starts_with(&[0x1f, 0x8b]);
            let sent = if half { &body[..body.len() / 2] } else { &body[..] };
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_err() || half {
                return;
            }
            line.clear();
        }
    }
}

#[test]
fn images_are_pulled_with_credentials_and_from_mirrors() {
    isolated(|| async {
        let layers = [busybox_layer(), layer(&[file("second", b"x", 0o644)])];
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::serve(&layers, Some("t0ken"), Lie::Nothing);
        let open = Registry::serve(&layers, None, Lie::Nothing);
        let mirrors = vec![
            Mirror::parse("docker.io=http://127.0.0.1:1").unwrap(),
            Mirror::parse(&format!("docker.io=http://{open}")).unwrap(),
        ];
        let store = Arc::new(Store::open(directory.path(), mirrors).unwrap());
        let name = format!("{registry}/library/app:1");
        let error = store.pull(&name, None).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("failed to pull and unpack image \"{name}\": failed to resolve reference")),
            "{error}"
        );
        assert!(error.contains("authorization failed"), "{error}");
        let auth = Auth { username: "user".into(), password: "secret".into(), registry_token: String::new() };
        let id = store.pull(&name, Some(auth)).await.unwrap();
        let image = store.status(&name).unwrap().unwrap();
        assert_eq!(image.id, id);
        assert!(image.repo_digests[0].starts_with(&format!("{registry}/library/app@sha256:")), "{image:?}");
        assert!(image.size > 100_000);
        assert_eq!(store.pull("app:1", None).await.unwrap(), id, "by the second mirror");
        assert_eq!(store.status("app:1").unwrap().unwrap().repo_tags.len(), 2);
        let missing = store.pull(&format!("{open}/library/none:1"), None).await.unwrap_err().to_string();
        assert!(missing.ends_with(&format!("{open}/library/none:1: not found")), "{missing}");
        let refused = store.pull("127.0.0.1:1/a:1", None).await.unwrap_err().to_string();
        assert!(refused.contains("failed to do request"), "{refused}");
        assert!(store.pull("UPPER", None).await.unwrap_err().to_string().contains("must be lowercase"));
    });
}

#[test]
fn a_registry_that_lies_is_refused() {
    isolated(|| async {
        let layers = [layer(&[file("f", &[b'x'; 5000], 0o644)])];
        for (lie, said) in [
            (Lie::Layer, "failed to fetch layer sha256:"),
            (Lie::Config, "failed to fetch config sha256:"),
            (Lie::Manifest, "failed to resolve reference"),
            (Lie::Size, "failed to fetch layer sha256:"),
            (Lie::Rubbish, "failed to resolve reference"),
            (Lie::MediaType, "failed to resolve reference"),
            (Lie::HalfWay, "failed to fetch layer sha256:"),
            (Lie::Layers, "another number of layers"),
            (Lie::Fails, "failed to fetch config sha256:"),
            (Lie::Missing, "failed to fetch config sha256:"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let registry = Registry::serve(&layers, None, lie);
            let store = Arc::new(Store::open(directory.path(), Vec::new()).unwrap());
            let pulled = store.pull(&format!("{registry}/library/app:1"), None).await;
            let error = pulled.expect_err(&format!("{lie:?} was taken")).to_string();
            assert!(error.contains(said), "{lie:?}: {error}");
            assert!(store.all().unwrap().by_id.is_empty(), "{lie:?}");
            assert_eq!(common::names(&directory.path().join("layers")), Vec::<String>::new(), "{lie:?}");
            assert_eq!(common::names(&directory.path().join("tmp")), Vec::<String>::new(), "{lie:?}");
        }
    });
}
