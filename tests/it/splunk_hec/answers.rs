//! What becomes of findings at each answer HEC, or what stands before it, is known to give.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::support::process::now;

/// HEC's words for a code, with the event it blames.
fn blaming(code: u16, number: u64) -> Answer {
    let body = json!({"text": "at fault", "code": code, "invalid-event-number": number});
    Answer::new(400, body.to_string())
}

/// One answer out of order, then a server that is well: findings that arrived, and requests.
async fn after(answer: Answer) -> (Vec<u64>, usize, Totals) {
    let server = HecServer::start(Options::default()).await;
    server.answer_next(vec![answer]);
    let totals = deliver(&config(&server), 4).await;
    (numbers(&server), server.requests().len(), totals)
}

#[tokio::test]
async fn answers_that_an_operator_can_mend_cost_nothing() {
    for answer in [
        Answer::code(1),
        Answer::code(2),
        Answer::code(3),
        Answer::code(4),
        Answer::code(7),
        Answer::code(10),
        Answer::code(11),
        Answer::code(14),
        Answer::code(16),
        Answer::new(401, "<html>Unauthorized</html>"),
        Answer::new(403, "<html>Forbidden</html>"),
        Answer::new(400, "<html>Bad Request</html>"),
        Answer::new(301, "<html>Moved</html>"),
        Answer::new(404, "<html>Not Found</html>"),
        Answer::new(407, "<html>Proxy Authentication Required</html>"),
        Answer::new(415, "<html>Unsupported Media Type</html>"),
    ] {
        let server = HecServer::start(Options::default()).await;
        server.answer_next(vec![answer.clone(); 6]);
        let totals = deliver(&config(&server), 4).await;
        let seen = (numbers(&server), server.requests().len(), totals);
        assert_eq!(seen, (vec![0, 1, 2, 3], 7, sent(4)), "{answer:?}");
    }
}

#[tokio::test]
async fn answers_that_pass() {
    for answer in [
        Answer::code(8),
        Answer::code(9),
        Answer::code(9).header("retry-after", "0"),
        Answer::code(18),
        Answer::code(23),
        Answer::code(26),
        Answer::code(27),
        Answer::new(404, "<html>Not Found</html>"),
        Answer::new(408, ""),
        Answer::new(429, "<html>Slow down</html>").header("retry-after", "0"),
        Answer::new(500, "<html>Oops</html>"),
        Answer::new(502, "<html>Bad Gateway</html>"),
        Answer::new(503, "<html>Unavailable</html>"),
        Answer::new(504, ""),
        Answer::new(200, "<html>Welcome</html>"),
        Answer::new(204, ""),
        Answer::reset(),
    ] {
        let all = (vec![0, 1, 2, 3], 2, sent(4));
        assert_eq!(after(answer.clone()).await, all, "{answer:?}");
    }
}

#[tokio::test]
async fn answers_that_blame_an_event_cost_that_event_alone() {
    for code in [5, 6, 12, 13, 15] {
        let lost = Totals { sent: 3, failed: 1 };
        let wanted = (vec![0, 2, 3], 2, lost);
        assert_eq!(after(blaming(code, 1)).await, wanted, "{code}");
        // Without the number of a finding in it, the request is halved: nothing is lost to a guess.
        for answer in [Answer::code(code), blaming(code, 99)] {
            let wanted = (vec![0, 1, 2, 3], 3, sent(4));
            assert_eq!(after(answer).await, wanted, "{code}");
        }
    }
}

#[tokio::test]
async fn too_much_is_halved_whoever_says_so() {
    for body in ["<html>Request Entity Too Large</html>", "", "{\"code\":99}"] {
        let wanted = (vec![0, 1, 2, 3], 3, sent(4));
        assert_eq!(after(Answer::new(413, body)).await, wanted, "{body}");
    }
}

/// A server that takes a request and then says something, a byte at a time, without end.
async fn dripping(listener: &TcpListener, head: &str) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _some = stream.read(&mut request).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // Ends when the client has had enough.
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Bytes that keep coming do not extend the time-out, neither in the head nor in the body.
#[tokio::test]
async fn a_server_that_drips_is_left_after_the_time_out() {
    for head in [
        "HTTP/1.1 200 OK\r\nx-slow: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n{\"text\":\"Success\",\"code\":0",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            token: SecretString::from("test-token"),
            timeout: Duration::from_millis(300),
            retry: RetryConfig {
                enabled: false,
                ..RetryConfig::default()
            },
            ..Config::default()
        };
        let begun = now();
        let totals = tokio::select! {
            totals = deliver(&config, 1) => totals,
            () = dripping(&listener, head) => unreachable!(),
        };
        assert_eq!(
            totals,
            Totals { sent: 0, failed: 1 },
            "half a reply is none"
        );
        assert!(begun.elapsed() < Duration::from_secs(3), "{head}");
    }
}
