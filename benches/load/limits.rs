//! What is possible at best: servers that do nothing but what is compared. Each runs as a process of its own, this
//! very program started again, so that it has its own core and its own descriptors.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};

use crate::process::{Launch, Process};

/// The argument that makes this program such a server.
pub const ARGUMENT: &str = "serve-limit";

const READY: &str = "ready on ";

/// Starts one; gives it and its address.
pub fn launch(name: &str, core: Option<usize>) -> (Process, std::net::SocketAddr) {
    let this = std::env::current_exe().expect("a running program has a path");
    let (process, address) = Launch::new(this, core).args([ARGUMENT, name]).until_says(READY);
    (process, address.parse().expect("it says where it listens"))
}

/// Serves until killed.
#[expect(clippy::print_stdout, reason = "its parent waits for this line")]
pub fn serve(name: &str) {
    crate::process::raise_descriptor_limit();
    match name {
        "trivial" => trivial(&|address| println!("{READY}{address}")),
        "raw" => raw(&|address| println!("{READY}{address}")),
        _ => unreachable!("limits are started by this program"),
    }
}

/// An actix handler that reads a body and answers as a heartbeat is answered.
fn trivial(ready: &dyn Fn(std::net::SocketAddr)) {
    const ANSWER: &str = "{\"sessions\":[{\"session\":\"3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77\",\"state\":\"alive\"}],\
        \"heartbeat_ms\":15000,\"lease_ms\":45000}";
    actix_web::rt::System::new().block_on(async {
        let answer =
            |_: web::Bytes| async { HttpResponse::Ok().content_type("application/json").body(ANSWER) };
        let server = HttpServer::new(move || App::new().route("/v1/heartbeats", web::post().to(answer)));
        let server = server.keep_alive(Duration::from_secs(75)); // as headcount does
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a port is free");
        ready(server.addrs()[0]);
        server.run().await.expect("it serves");
    });
}

/// Writes each published frame to every socket, one `write` each, and does nothing else.
///
/// The first line of a connection says what it is: `watch`, or `publish`, after which each line `FIRST COUNT LENGTH`
/// has frames of these marks written. A socket that is full is waited for by spinning: nobody here is slow.
fn raw(ready: &dyn Fn(std::net::SocketAddr)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    ready(listener.local_addr().expect("it is bound"));
    let mut watchers: Vec<TcpStream> = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.expect("a descriptor is free");
        stream.set_nodelay(true).expect("a TCP socket takes this option");
        let mut kind = [0; 6];
        stream.read_exact(&mut kind).expect("it says what it is");
        if &kind == b"watch\n" {
            stream.write_all(b"open\n").expect("it reads");
            stream.set_nonblocking(true).expect("a TCP socket takes this option");
            watchers.push(stream);
        } else {
            publish(&stream, &watchers);
        }
    }
}

fn publish(orders: &TcpStream, watchers: &[TcpStream]) {
    for order in BufReader::new(orders).lines().map_while(Result::ok) {
        let numbers: Vec<u64> = order.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [first, count, length] = numbers[..] else { continue };
        for number in first..first + count {
            let frame = crate::peers::payload(number, usize::try_from(length).unwrap_or(200)) + "\n";
            for mut watcher in watchers {
                let mut rest = frame.as_bytes();
                while !rest.is_empty() {
                    match watcher.write(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                        Err(_) => break, // it went away
                    }
                }
            }
        }
    }
}
