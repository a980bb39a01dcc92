//! The console, as a browser without script asks it.

mod plans;
mod safety;
mod targets;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::http::{Response, get, post};
use crate::server::Tollgate;

/// Somebody who visits the pages, and keeps a cookie.
#[derive(Clone, Debug)]
struct Visitor {
    to: SocketAddr,
    cookie: Option<String>,
}

impl Visitor {
    fn of(tollgate: &Tollgate) -> Self {
        Self { to: tollgate.http_addr(), cookie: None }
    }

    /// One who has signed in.
    fn signed_in(tollgate: &Tollgate, token: &str) -> Self {
        let mut visitor = Self::of(tollgate);
        let answer = visitor.sign_in(token);
        assert_eq!(answer.status, 303, "{}", answer.text());
        visitor
    }

    fn sign_in(&mut self, token: &str) -> Response {
        let page = self.get("/console/sign-in");
        let mut fields = hidden(&page.text());
        fields.push(("token".to_owned(), token.to_owned()));
        let answer = self.post("/console/sign-in", &fields);
        self.keep(&answer);
        answer
    }

    fn keep(&mut self, answer: &Response) {
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        if let Some(cookie) = cookie {
            self.cookie = Some(cookie.to_owned());
        }
    }

    fn get(&self, path: &str) -> Response {
        let request = match &self.cookie {
            Some(cookie) => get(path).header("cookie", cookie),
            None => get(path),
        };
        request.send(self.to).unwrap()
    }

    /// A page that is there.
    fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    fn post(&self, path: &str, fields: &[(String, String)]) -> Response {
        let request = post(path, encoded(fields))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "http://test")
            .header("sec-fetch-site", "same-origin");
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        request.send(self.to).unwrap()
    }

    /// Fills the form of a page in, and sends it.
    fn send(&self, path: &str, typed: &[(&str, &str)]) -> Response {
        self.send_form(&self.page(path), path, typed)
    }

    /// Fills the form of this page in, and sends it to `path`.
    fn send_form(&self, page: &str, path: &str, typed: &[(&str, &str)]) -> Response {
        self.post(path, &filled(page, typed))
    }
}

/// The fields that a page has, with what was typed into them.
fn filled(page: &str, typed: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields = hidden(page);
    for (name, text) in typed {
        fields.retain(|(known, _)| known != name);
        fields.push(((*name).to_owned(), (*text).to_owned()));
    }
    fields
}

/// Every `input` of the forms that are sent by POST, but for buttons and what has to be chosen.
fn hidden(page: &str) -> Vec<(String, String)> {
    let forms = page.split("<form").skip(1).filter(|form| form.contains("method=\"post\""));
    let forms: Vec<&str> =
        forms.map(|form| form.split("</form>").next().unwrap_or_default()).collect();
    // Signing out is a form of its own.
    let form = forms.iter().rfind(|form| !form.contains("action=\"/console/sign-out\""));
    let inputs = form.into_iter().flat_map(|form| form.split("<input").skip(1));
    inputs
        .filter_map(|input| input.split('>').next())
        .filter(|input| !input.contains("type=\"radio\"") && !input.contains("type=\"checkbox\""))
        .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
        .collect()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    let plain = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(plain.replace("&amp;", "&"))
}

fn encoded(fields: &[(String, String)]) -> String {
    let part = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs = fields.iter().map(|(name, text)| format!("{}={}", part(name), part(text)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Where an answer leads to.
fn leads_to(answer: &Response) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.header("location").unwrap()
}

/// A server that asks who visits, and the tokens that it knows.
struct Guarded {
    tollgate: Tollgate,
    folder: TempDir,
    admin: String,
    read: String,
    decide: String,
}

impl Guarded {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut lines = "tokens:\n".to_owned();
        let mut make = |id: &str, scope: &str| {
            let made = Command::new(env!("CARGO_BIN_EXE_tollgate"))
                .args(["token", "create", id, "--scope", scope])
                .output()
                .unwrap();
            lines += &String::from_utf8(made.stderr).unwrap();
            String::from_utf8(made.stdout).unwrap().trim().to_owned()
        };
        let (admin, read) = (make("operations", "admin"), make("looker", "read"));
        let decide = make("gateway", "decide");
        let file = folder.path().join("tokens.yaml");
        fs::write(&file, &lines).unwrap();
        let args = ["--tokens-file", file.to_str().unwrap()];
        let tollgate = Tollgate::start(&args, &[("TOLLGATE_FILES_POLL_MS", "10")]);
        Self { tollgate, folder, admin, read, decide }
    }

    /// Takes a token out of the file.
    fn forget(&self, id: &str) {
        let file = self.folder.path().join("tokens.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let kept: Vec<&str> =
            text.lines().filter(|line| !line.contains(&format!("id: {id},"))).collect();
        assert!(kept.len() < text.lines().count(), "{text}");
        fs::write(&file, kept.join("\n") + "\n").unwrap();
    }
}
