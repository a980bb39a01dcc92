//! What a server holds: at rest, with keys, with customers, with idle connections.
//!
//! Each kind grows in a server of its own. What is resident is taken right after all have called,
//! and again a minute later, when what was only on its way is gone.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tollgate::load::{Job, Order, Traffic};

use crate::harness::arguments::Arguments;
use crate::harness::load::{Shape, caller, finish, job, rules};
use crate::harness::plans::{self, QUOTAS, RATE};
use crate::harness::plot::short;
use crate::harness::process::{Kept, Server};
use crate::harness::table::{Table, digits};

const SHAPE: Shape = (8, 32);
const CONNECTIONS: u64 = 10_000;

/// Of what there are many, in megabytes.
struct Budget {
    /// Where it is read.
    count: u64,
    resident: f64,
    /// The most that may be resident on the way there.
    peak: Option<f64>,
}

/// A kind of thing that a server holds.
struct Kind {
    name: &'static str,
    budget: Option<Budget>,
}

pub struct Memory {
    arguments: Arguments,
    table: Table,
}

impl Memory {
    /// Measures all kinds, and gives the table.
    pub fn table(arguments: &Arguments, folder: &Path) -> String {
        let table = Table::new(&[
            "what a server holds",
            "how many",
            "MB at once",
            "MB a minute later",
            "bytes each",
            "most MB on the way",
            "MB on disk",
            "budget MB",
        ]);
        let mut memory = Self { arguments: arguments.clone(), table };
        memory.at_rest();
        memory.keys(folder);
        memory.customers();
        memory.connections();
        memory.table.render()
    }

    fn wants(&self, name: &str) -> bool {
        self.arguments.wants(&format!("memory: {name}"))
    }

    fn at_rest(&mut self) {
        let kind = Kind {
            name: "nothing yet",
            budget: Some(Budget { count: 0, resident: 36.0, peak: None }),
        };
        if self.wants(kind.name) {
            let server = Server::tollgate(Kept::OnDisk, None);
            self.row(&kind, 0, 0.0, &server);
        }
        if self.wants("the program itself") {
            let bytes = fs::metadata(env!("CARGO_BIN_EXE_tollgate")).unwrap().len() as f64;
            let row = ["the program itself", "1 file", "", "", "", "", &mega(bytes), ""];
            self.table.push(row.map(str::to_owned).into());
        }
    }

    fn keys(&mut self, folder: &Path) {
        let most = if self.arguments.has("--full") { 7 } else { 6 };
        let budget = |resident, peak| Some(Budget { count: 1_000_000, resident, peak });
        for (kind, unit) in [
            (Kind { name: "keys of a minute's limit", budget: budget(105.0, None) }, "minute"),
            (Kind { name: "keys of a day's limit", budget: budget(150.0, Some(190.0)) }, "day"),
        ] {
            let text = format!(
                "domain: load\ndescriptors:\n- key: api_key\n  rate_limit: {{unit: {unit}, requests_per_unit: 4000000000}}\n"
            );
            let file = folder.join(format!("{unit}.yaml"));
            fs::write(&file, text).unwrap();
            let powers = [3, 6, 7].into_iter().filter(|power| *power <= most);
            self.grow(&kind, Some(&file), powers, |server, _, count| {
                ask_each(server, &rules(1), count);
            });
        }
    }

    fn customers(&mut self) {
        let budget = Some(Budget { count: 1_000_000, resident: 1_200.0, peak: None });
        for (kind, plan) in [
            (Kind { name: "customers with a rate limit", budget: None }, RATE),
            (Kind { name: "customers with a rate limit and two quotas", budget }, QUOTAS),
        ] {
            self.grow(&kind, None, [3, 5, 6].into_iter(), |server, before, count| {
                plans::create(server.grpc, plan, before, count);
                ask_each(server, &Traffic::Check(caller(plan)), count);
            });
        }
    }

    fn connections(&mut self) {
        let kind = Kind { name: "idle connections that have called once", budget: None };
        if !self.wants(kind.name) {
            return;
        }
        let server = Server::tollgate(Kept::OnDisk, None);
        let rest = server.resident_bytes();
        let kind = Kind {
            budget: Some(Budget { count: CONNECTIONS, resident: 150.0 + rest / 1e6, peak: None }),
            ..kind
        };
        more_files();
        let open: Vec<TcpStream> =
            (0..CONNECTIONS).map(|_| call_once(server.grpc).unwrap()).collect();
        self.row(&kind, CONNECTIONS, rest, &server);
        drop(open);
    }

    /// One server, and more and more of a kind in it: powers of ten.
    fn grow(
        &mut self,
        kind: &Kind,
        rules: Option<&Path>,
        powers: impl Iterator<Item = u32>,
        add: impl Fn(&Server, u64, u64),
    ) {
        if !self.wants(kind.name) {
            return;
        }
        let server = Server::tollgate(Kept::OnDisk, rules);
        let rest = server.resident_bytes();
        let mut before = 0;
        for count in powers.map(|power| 10_u64.pow(power)) {
            server.forget_peak();
            add(&server, before, count);
            before = count;
            self.row(kind, count, rest, &server);
        }
    }

    /// Looks at once and a minute later.
    fn row(&mut self, kind: &Kind, count: u64, rest: f64, server: &Server) {
        let at_once = server.resident_bytes();
        let wait = if self.arguments.has("--quick") { 15 } else { 60 };
        std::thread::sleep(Duration::from_secs(wait));
        let later = server.resident_bytes();
        let each = if count < 1_000 || rest == 0.0 {
            String::new()
        } else {
            format!("{:.0}", (later - rest) / count as f64)
        };
        let budget = kind.budget.as_ref().filter(|budget| budget.count == count);
        let budget = budget.map_or(String::new(), |budget| match budget.peak {
            Some(peak) => format!("{:.0}, never above {peak:.0}", budget.resident),
            None => format!("{:.0}", budget.resident),
        });
        let disk: u64 = server.folder().map_or(0, |folder| {
            let files = fs::read_dir(folder).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        });
        self.table.push(vec![
            kind.name.to_owned(),
            if count == 0 { String::new() } else { short(count as f64) },
            mega(at_once),
            mega(later),
            each,
            mega(server.peak_bytes()),
            mega(disk as f64),
            budget,
        ]);
    }
}

/// Every key in turn until all were admitted, and then some at random: what threads remember of
/// callers is there too. On a busy machine a first call may find the ledger late.
fn ask_each(server: &Server, traffic: &Traffic, count: u64) {
    const ROUNDS: usize = 20;
    let job = Job { requests: Some(count), ..job(server, traffic.clone(), SHAPE, count) };
    let ask = |order| finish(Job { order, ..job.clone() }).tally.calls.admitted(traffic);
    let all = (0..ROUNDS).any(|_| ask(Order::InTurn) == count);
    assert!(all, "not all of {count} were admitted in any of {ROUNDS} rounds");
    ask(Order::Skewed(0.0));
}

fn mega(bytes: f64) -> String {
    digits(bytes / 1e6)
}

/// As many files as this process may have.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Makes an HTTP/2 connection and one call on it, and leaves it open.
fn call_once(server: SocketAddr) -> io::Result<TcpStream> {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    const ACK_OR_END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // POST and http have numbers of their own, other fields are written out.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut io = TcpStream::connect(server)?;
    io.set_read_timeout(Some(Duration::from_secs(10)))?;
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    io.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    io.write_all(&frame(HEADERS, END_HEADERS, 1, &block))?;
    io.write_all(&frame(0, END_STREAM, 1, &[0; 5]))?;
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head)?;
        let [_, l0, l1, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(l0) << 8 | usize::from(l1)];
        io.read_exact(&mut payload)?;
        if kind == SETTINGS && flags & ACK_OR_END_STREAM == 0 {
            io.write_all(&frame(SETTINGS, ACK_OR_END_STREAM, 0, &[]))?;
        }
        if kind == HEADERS && flags & END_STREAM != 0 {
            return Ok(io);
        }
    }
}
