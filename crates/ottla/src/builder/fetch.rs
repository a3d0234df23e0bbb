//! The settings of fetching and of memory.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Bound of the memory for fetched and decompressed data, all partitions together.
    ///
    /// Default: 64 MiB. What is handed out counts no longer. Fetching waits for room; the bound can be exceeded
    /// by one oversized batch per broker and the one that the reader waits for. More memory buys throughput only
    /// where the way to the brokers is long.
    ///
    /// What it does not cover is about 1.5 KB for each partition, the requests and the answer being read. For little
    /// memory, 2 MiB here and 256 KiB as [`fetch_max_bytes`](Self::fetch_max_bytes) keep a consumer of 1,000 partitions
    /// whose batches are small below 16 MiB of heap.
    #[doc(alias = "queued.max.messages.kbytes")]
    #[doc(alias = "queued.min.messages")]
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.config.max_buffered_bytes = bytes;
        self
    }

    /// How many threads decompress batches ahead of the reader.
    ///
    /// Default: one less than there are processors for this process, at most 4; none with
    /// [`on_current_runtime`](Self::on_current_runtime). Uncompressed data needs none and leaves them asleep. With
    /// codecs that cost much (zstd, gzip) decompression is most of what reading costs, and a reader that does it alone
    /// is bounded by one processor, however many partitions it has; 0 leaves it to the reader, which costs the least
    /// processor time per record.
    ///
    /// Order stays as it is, also within one partition. What is decoded ahead takes at most 2 MiB of
    /// [`max_buffered_bytes`](Self::max_buffered_bytes), and nothing is if those are less than 256 KiB. Each thread
    /// keeps up to 2 MiB of buffers and contexts besides.
    pub fn decode_threads(mut self, threads: usize) -> Self {
        self.decode_threads = Some(threads);
        self
    }

    pub(super) fn effective_decode_threads(&self) -> usize {
        let spare = || {
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            if self.on_current_runtime { 0 } else { (processors - 1).min(4) }
        };
        self.decode_threads.unwrap_or_else(spare)
    }

    /// Most bytes that one batch of a partition may decompress to.
    ///
    /// Default: 128 MiB. A batch beyond it stops its partition with an error of kind
    /// [`Limit`](crate::ErrorKind::Limit): a few kilobytes on the wire can decompress to gigabytes.
    pub fn max_decompressed_batch_bytes(mut self, bytes: usize) -> Self {
        self.config.max_decompressed_batch_bytes = bytes;
        self
    }

    /// Largest response that is accepted from a broker.
    ///
    /// Default: 100 MiB. It must hold the largest record batch of the topics; a larger response closes its
    /// connection with an error.
    #[doc(alias = "receive.message.max.bytes")]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.config.max_frame_bytes = bytes;
        self
    }

    /// Whether the checksum of every batch is verified.
    ///
    /// Default: `true`, as in Java. It costs a fraction of copying the data out of the socket, and finds
    /// what disks, networks and memory break.
    #[doc(alias = "check.crcs")]
    pub fn check_crcs(mut self, check: bool) -> Self {
        self.config.check_crcs = check;
        self
    }

    /// The rack (availability zone) that the client is in.
    ///
    /// Default: unknown. With it, brokers that are configured so let the client fetch from the nearest replica
    /// (KIP-392) for [`metadata_max_age`](Self::metadata_max_age) at a time, and rack-aware assignors prefer partitions that are near (KIP-881).
    #[doc(alias = "client.rack")]
    pub fn client_rack(mut self, rack: impl Into<String>) -> Self {
        self.config.client_rack = Some(rack.into());
        self
    }

    /// A fetch is answered only when this many bytes are there, or [`fetch_max_wait`](Self::fetch_max_wait) is
    /// over.
    ///
    /// Default: 1: at once. More trades latency for fewer requests.
    #[doc(alias = "fetch.min.bytes")]
    pub fn fetch_min_bytes(mut self, bytes: i32) -> Self {
        self.config.fetch_min_bytes = bytes;
        self
    }

    /// How long a broker holds a fetch that it has too little data for.
    ///
    /// Default: 500 milliseconds. New data is sent at once, so a longer wait costs no latency with the default
    /// of [`fetch_min_bytes`](Self::fetch_min_bytes); a shorter one costs requests.
    #[doc(alias = "fetch.max.wait.ms")]
    #[doc(alias = "fetch.wait.max.ms")]
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.config.fetch_max_wait = wait;
        self
    }

    /// Most bytes in one fetch response.
    ///
    /// Default: 1 MiB. It is soft: the first batch always comes, however large it is. Larger responses cost
    /// memory and page faults and gain little, because the next fetch is under way while one is read. Above 4 MiB
    /// it changes nothing; small ones are honoured as they are, from one byte on, and cost a round trip for each
    /// batch.
    #[doc(alias = "fetch.max.bytes")]
    pub fn fetch_max_bytes(mut self, bytes: i32) -> Self {
        self.config.fetch_max_bytes = bytes;
        self
    }

    /// Most bytes of one partition in one fetch response, and how much of a partition is read ahead: what has so much
    /// waiting is not fetched until some of it is taken.
    ///
    /// Default: 1 MiB. It is soft: the first batch always comes. More than that is read ahead of
    /// [`next_batches`](crate::Consumer::next_batches) while it waits for more.
    #[doc(alias = "max.partition.fetch.bytes")]
    #[doc(alias = "fetch.message.max.bytes")]
    pub fn max_partition_fetch_bytes(mut self, bytes: i32) -> Self {
        self.config.max_partition_fetch_bytes = bytes;
        self
    }
}
