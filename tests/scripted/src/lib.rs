//! An HTTP endpoint that answers AWS calls from a script: the tests of the adapters run the real
//! SDK clients against it, over a real socket.
//!
//! It doubles nothing of AWS's behaviour. A call that the script does not expect is a 500 with the
//! request in it, and shows in [`Endpoint::requests`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer of the script.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    body: String,
    delay: Duration,
}

impl Answer {
    /// HTTP 200 with this body.
    #[must_use]
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, body: body.into(), delay: Duration::ZERO }
    }

    /// An error as the JSON protocols (DynamoDB, Step Functions) write it.
    #[must_use]
    pub fn json_error(status: u16, code: &str) -> Self {
        Self {
            status,
            body: format!(r#"{{"__type":"x#{code}","message":"scripted"}}"#),
            delay: Duration::ZERO,
        }
    }

    /// An error as EC2 writes it.
    #[must_use]
    pub fn ec2_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>scripted</Message></Error></Errors></Response>"
        );
        Self { status, body, delay: Duration::ZERO }
    }

    /// The same answer, this much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// What a rule of [`Endpoint::answering`] sees of a call.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The action: `X-Amz-Target` of the JSON protocols in lower case (`dynamodb_20120810.query`), `Action` of the
    /// query protocols (`DescribeInstances`).
    pub action: &'a str,
    /// The body.
    pub body: &'a str,
}

type Rule = dyn Fn(Asked<'_>) -> Answer + Send + Sync;

/// A listening endpoint.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// Listens on a free loopback port and answers the calls in the order of the script, the last
    /// answer for ever.
    ///
    /// # Panics
    /// No port is free.
    #[allow(clippy::expect_used)]
    pub async fn start(script: Vec<Answer>) -> Self {
        let turn = AtomicUsize::new(0);
        Self::answering(move |_| {
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let answer = script.get(turn).or(script.last());
            answer.cloned().unwrap_or_else(|| Answer::json_error(500, "NoScript"))
        })
        .await
    }

    /// Listens on a free loopback port and answers each call by the rule.
    ///
    /// # Panics
    /// No port is free.
    #[allow(clippy::expect_used)]
    pub async fn answering(rule: impl Fn(Asked<'_>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let rule: Arc<Rule> = Arc::new(rule);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&rule), Arc::clone(&log)));
            }
        });
        Self { url, requests }
    }

    /// The bodies of the requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// A configuration whose every client calls this endpoint, with quick retries.
    pub async fn config(&self) -> SdkConfig {
        let retries =
            RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(10));
        aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region("us-east-1")
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("test", "test", None, None, "scripted"))
            .retry_config(retries)
            .load()
            .await
    }
}

async fn serve(mut stream: TcpStream, rule: Arc<Rule>, log: Arc<Mutex<Vec<String>>>) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let answer = rule(Asked { action: action(&head, &body), body: &body });
        if let Ok(mut log) = log.lock() {
            log.push(body);
        }
        tokio::time::sleep(answer.delay).await;
        let head = format!(
            "HTTP/1.1 {} scripted\r\ncontent-length: {}\r\nx-amzn-requestid: scripted\r\n\r\n",
            answer.status,
            answer.body.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(answer.body.as_bytes()).await.is_err()
        {
            return;
        }
    }
}

/// `X-Amz-Target`, or the query's `Action`.
fn action<'a>(head: &'a str, body: &'a str) -> &'a str {
    let target = head.lines().find_map(|line| line.strip_prefix("x-amz-target:")).map(str::trim);
    let query = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
    target.or(query).unwrap_or_default()
}

/// The head, in lower case, and the body of the next request on this connection.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|n| n.trim().parse().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                return Some((head, body));
            }
        }
        let read = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}
