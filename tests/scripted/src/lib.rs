//! An HTTP endpoint that answers AWS calls from a script. The tests of the adapters run the real SDK clients
//! against it, over a real socket.
//!
//! The endpoint doubles none of AWS's behaviour. A call that the script does not expect gets a 500 that holds
//! the request, and [`Endpoint::requests`] shows the call. [`state_machine`] reads the text of a state
//! machine.

pub mod state_machine;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer of the script.
#[derive(Debug, Clone)]
pub struct ScriptedAnswer {
    status: u16,
    body: String,
    delay: Duration,
}

impl ScriptedAnswer {
    /// Answers HTTP 200 with this body.
    #[must_use]
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, body: body.into(), delay: Duration::ZERO }
    }

    /// Answers an error in the form of the JSON protocols (DynamoDB, Step Functions).
    #[must_use]
    pub fn json_error(status: u16, code: &str) -> Self {
        Self {
            status,
            body: format!(r#"{{"__type":"x#{code}","message":"scripted"}}"#),
            delay: Duration::ZERO,
        }
    }

    /// Answers that a condition of DynamoDB did not hold, with the stored row (JSON) if the call asked for it.
    #[must_use]
    pub fn condition_failed(row: Option<&str>) -> Self {
        let item = row.map_or_else(String::new, |row| format!(r#","Item":{row}"#));
        let body = format!(r#"{{"__type":"x#ConditionalCheckFailedException","message":"scripted"{item}}}"#);
        Self { status: 400, body, delay: Duration::ZERO }
    }

    /// Answers an error in EC2's form.
    #[must_use]
    pub fn ec2_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>scripted</Message></Error></Errors></Response>"
        );
        Self { status, body, delay: Duration::ZERO }
    }

    /// Answers an error in the form of the query protocol (Auto Scaling, SNS, STS).
    #[must_use]
    pub fn query_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>scripted</Message></Error></ErrorResponse>"
        );
        Self { status, body, delay: Duration::ZERO }
    }

    /// Returns the same error with this message.
    #[must_use]
    pub fn saying(self, message: &str) -> Self {
        Self { body: self.body.replace("scripted", message), ..self }
    }

    /// Returns the same answer, sent after this delay.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A rule that answers a call by its number, its action (`DescribeVolumes`) and its body.
type Responder = dyn Fn(usize, &str, &str) -> Option<ScriptedAnswer> + Send + Sync;

/// A listening endpoint.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// Listens on a free loopback port and answers the calls in the order of the script. The last answer
    /// repeats for ever.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(script: Vec<ScriptedAnswer>) -> Self {
        Self::listen(Arc::new(move |turn, _, _| script.get(turn).or(script.last()).cloned())).await
    }

    /// Listens on a free loopback port and answers each call by its action and body.
    ///
    /// # Panics
    /// No port is free.
    pub async fn answering(respond: impl Fn(&str, &str) -> ScriptedAnswer + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(move |_, action, body| Some(respond(action, body)))).await
    }

    #[allow(clippy::expect_used)]
    async fn listen(respond: Arc<Responder>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&respond), Arc::clone(&log)));
            }
        });
        Self { url, requests }
    }

    /// Returns the bodies of the requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// Returns a configuration whose every client calls this endpoint, with quick retries.
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

async fn serve(mut stream: TcpStream, respond: Arc<Responder>, log: Arc<Mutex<Vec<String>>>) {
    while let Some((action, body)) = read_request(&mut stream).await {
        let turn = log.lock().map(|mut log| {
            log.push(body.clone());
            log.len() - 1
        });
        let answer = turn.ok().and_then(|turn| respond(turn, &action, &body));
        let answer = answer.unwrap_or_else(|| ScriptedAnswer::json_error(500, "NoScript"));
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

/// Reads action and body of the next request on this connection. JSON protocols name the action in a header,
/// the query protocols in the body.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let raw = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let head = raw.to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|n| n.trim().parse().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                return Some((action(&raw, &body), body));
            }
        }
        let read = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn action(head: &str, body: &str) -> String {
    let target = head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-amz-target:"));
    let in_head = target.and_then(|line| line.rsplit('.').next());
    let in_body = body.split('&').find_map(|field| field.strip_prefix("Action="));
    in_head.or(in_body).unwrap_or_default().trim().to_owned()
}
