//! A conversation that leaves a transcript without anything random in it.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use ottla_broker::ErrorCode;
use tokio::net::TcpStream;

use super::{Client, batches};

pub(crate) struct Talk {
    pub(crate) address: String,
    /// Keeps the names of this run apart from those of earlier ones on the same broker.
    pub(crate) suffix: String,
    pub(crate) lines: Vec<String>,
    pub(crate) members: Vec<String>,
}

pub(crate) type Conn = Client<TcpStream>;

pub(crate) fn code(code: i16) -> String {
    ErrorCode(code).name().map_or_else(|| code.to_string(), str::to_owned)
}

impl Talk {
    pub(crate) async fn connect(&self) -> Conn {
        Client::new(TcpStream::connect(&self.address).await.unwrap())
    }

    pub(crate) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(crate) fn name(&self, short: &str) -> String {
        format!("{short}-{}", self.suffix)
    }

    /// Member ids are random: they become m1, m2 … in the order in which they appear.
    pub(crate) fn member(&mut self, id: &str) -> String {
        if id.is_empty() {
            return "-".to_owned();
        }
        // In a consumer group they are Kafka's UUIDs, 22 characters long.
        if !id.starts_with("tester-") && !id.starts_with("inst") && id.len() != 22 {
            return id.to_owned();
        }
        let place = self.members.iter().position(|known| known == id).unwrap_or_else(|| {
            self.members.push(id.to_owned());
            self.members.len() - 1
        });
        format!("m{}", place + 1)
    }

    /// Compares what was said with the transcript in `file`; if it was said to a real broker that is to be recorded,
    /// that is the transcript from now on.
    pub(crate) fn compare(&self, file: &str) {
        let path = format!("{}/tests/parity/{file}", env!("CARGO_MANIFEST_DIR"));
        let real = std::env::var_os("OTTLA_PARITY_BOOTSTRAP").is_some();
        if real && std::env::var_os("OTTLA_PARITY_RECORD").is_some() {
            std::fs::write(path, self.lines.join("\n") + "\n").unwrap();
            return;
        }
        let transcript = std::fs::read_to_string(path).unwrap();
        let expected: Vec<&str> = transcript.lines().collect();
        let mut wrong = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            let kafka = expected.get(i).copied().unwrap_or("(nothing)");
            if kafka != line {
                wrong.push(format!("kafka:    {kafka}\nembedded: {line}"));
            }
        }
        let whole = wrong.is_empty() && expected.len() == self.lines.len();
        assert!(whole, "{} differ\n{}", wrong.len(), wrong.join("\n"));
    }

    pub(crate) async fn call<R: Request>(
        &mut self,
        conn: &mut Conn,
        version: i16,
        request: &R,
    ) -> R::Response {
        conn.call(version, request).await.unwrap()
    }

    pub(crate) async fn join(
        &mut self,
        label: &str,
        conn: &mut Conn,
        version: i16,
        request: &JoinGroupRequest,
    ) -> String {
        let response = self.call(conn, version, request).await;
        self.joined(label, version, &response)
    }

    pub(crate) fn joined(&mut self, label: &str, _version: i16, r: &JoinGroupResponse) -> String {
        let (leader, id) = (self.member(&r.leader), self.member(&r.member_id));
        let mut members: Vec<String> =
            r.members.iter().map(|m| format!("{}={:?}", self.member(&m.member_id), m.metadata)).collect();
        members.sort();
        let line = format!(
            "{label}: {} generation {} type {:?} protocol {:?} leader {leader} member {id} members {members:?} skip {}",
            code(r.error_code),
            r.generation_id,
            r.protocol_type.as_deref().map(|s| s as &str),
            r.protocol_name.as_deref().map(|s| s as &str),
            r.skip_assignment
        );
        self.say(line);
        r.member_id.to_string()
    }

    pub(crate) async fn sync(
        &mut self,
        label: &str,
        conn: &mut Conn,
        version: i16,
        request: &SyncGroupRequest,
    ) {
        let r = self.call(conn, version, request).await;
        self.synced(label, &r);
    }

    pub(crate) fn synced(&mut self, label: &str, r: &SyncGroupResponse) {
        let line = format!(
            "{label}: {} type {:?} protocol {:?} assignment {:?}",
            code(r.error_code),
            r.protocol_type.as_deref().map(|s| s as &str),
            r.protocol_name.as_deref().map(|s| s as &str),
            r.assignment
        );
        self.say(line);
    }

    pub(crate) async fn beat(&mut self, label: &str, conn: &mut Conn, request: &HeartbeatRequest) {
        let r = self.call(conn, 4, request).await;
        self.say(format!("{label}: {}", code(r.error_code)));
    }

    pub(crate) async fn leave(&mut self, label: &str, conn: &mut Conn, request: &LeaveGroupRequest) {
        let r = self.call(conn, 4, request).await;
        let members: Vec<String> = r.members.iter().map(|m| code(m.error_code)).collect();
        self.say(format!("{label}: {} {members:?}", code(r.error_code)));
    }

    pub(crate) async fn commit(
        &mut self,
        label: &str,
        conn: &mut Conn,
        version: i16,
        request: &OffsetCommitRequest,
    ) {
        let r = self.call(conn, version, request).await;
        let mut codes: Vec<String> = r
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (t.name.len(), p)))
            .map(|(name, p)| format!("{}/{} {}", name == 4, p.partition_index, code(p.error_code)))
            .collect();
        codes.sort();
        self.say(format!("{label}: {codes:?}"));
    }

    pub(crate) fn fetched(&mut self, label: &str, session: Option<i32>, r: &FetchResponse) {
        let partitions: Vec<String> = r
            .responses
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| {
                let records = p.records.as_ref().map(|r| batches(r));
                format!(
                    "{}:{} hw {} lso {} start {} diverging {}/{} aborted {:?} replica {} records {records:?}",
                    p.partition_index,
                    code(p.error_code),
                    p.high_watermark,
                    p.last_stable_offset,
                    p.log_start_offset,
                    p.diverging_epoch.epoch,
                    p.diverging_epoch.end_offset,
                    p.aborted_transactions.as_ref().map(Vec::len),
                    p.preferred_read_replica.0,
                )
            })
            .collect();
        let session = match r.session_id {
            0 => "none",
            id if Some(id) == session => "same",
            _ => "new",
        };
        self.say(format!("{label}: {} session {session} {partitions:?}", code(r.error_code)));
    }

    pub(crate) async fn fetch(
        &mut self,
        label: &str,
        conn: &mut Conn,
        version: i16,
        session: Option<i32>,
        request: &FetchRequest,
    ) -> i32 {
        let r = self.call(conn, version, request).await;
        self.fetched(label, session, &r);
        r.session_id
    }
}
