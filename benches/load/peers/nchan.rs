//! nchan: the fan-out module of nginx, as Debian packages it. One nginx process, an EventSource subscriber.

use super::{FRAME, HttpPublisher, Peer, payload, until_listening};
use crate::process::{Launch, SERVER_CORE};
use crate::stage::{Stage, free_port, peers_folder};
use crate::watchers::Script;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub fn start(stage: &Stage) -> Result<Peer, String> {
    if !std::path::Path::new(MODULE).exists() {
        return Err("libnginx-mod-nchan is not installed (scripts/bootstrap peers)".into());
    }
    let port = free_port();
    let home = stage.data.path().join(format!("nginx-{port}"));
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let template = std::fs::read_to_string(peers_folder().join("nchan/nginx.conf"))
        .map_err(|error| error.to_string())?;
    let config = template.replace("@MODULE@", MODULE).replace("@PORT@", &port.to_string());
    std::fs::write(home.join("nginx.conf"), config).map_err(|error| error.to_string())?;
    let log = home.join("stderr");
    let path = home.display();
    let server = Launch::new("nginx", Some(SERVER_CORE))
        .args(["-p", &format!("{path}/"), "-c", "nginx.conf", "-e", "error.log"])
        .log(&log)
        .spawn();
    let address = format!("127.0.0.1:{port}").parse().expect("a port is a number");
    until_listening(address, &log)?;
    let request = |first: u64, count: u64| {
        let post = |number| {
            let body = payload(number, FRAME);
            format!("POST /pub HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        };
        (first..first + count).map(post).collect()
    };
    let publisher = HttpPublisher::new(address, 1, request);
    let hello = b"GET /sub HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n".to_vec();
    let script = Script { hello, then: None, ready: b"200 OK" };
    Ok(Peer { server, address, script, publisher, _others: Vec::new() })
}
