package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * Records by formula. The same formula is in src/records.rs, so that the reading side recomputes every byte.
 * Both files are one text in two languages: change them together.
 */
final class Records {
    private static final String[] HEADER_KEYS = {"trace", "retry", "dup", "dup", "gr\u00f6\u00dfe", ""};

    final long seed;
    final long first;
    final long count;
    final int partitions;
    final int partition;
    final int minValue;
    final int maxValue;
    final boolean nulls;
    final boolean headers;
    final long bigIndex;
    final int bigSize;
    final long firstTimestamp;

    Records(JsonNode spec) {
        seed = Json.number(spec, "seed", 0);
        first = Json.number(spec, "first", 0);
        count = Json.number(spec, "count", 0);
        partitions = (int) Json.number(spec, "partitions", 1);
        partition = (int) Json.number(spec, "partition", -1);
        minValue = (int) Json.number(spec, "min_value", 100);
        maxValue = (int) Json.number(spec, "max_value", 100);
        nulls = Json.flag(spec, "nulls");
        headers = Json.flag(spec, "headers");
        bigIndex = Json.number(spec, "big_index", -1);
        bigSize = (int) Json.number(spec, "big_size", 0);
        firstTimestamp = Json.number(spec, "first_timestamp", 1_700_000_000_000L);
    }

    /** The finalizer of SplitMix64. */
    static long mix(long z) {
        z += 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    int partition(long index) {
        return partition >= 0 ? partition : (int) (index % partitions);
    }

    private long hash(long index) {
        return mix(seed ^ mix(index));
    }

    byte[] key(long index) {
        if (nulls && index % 7 == 3) return null;
        if (nulls && index % 11 == 5) return new byte[0];
        return ("key-" + Long.remainderUnsigned(hash(index), 1000)).getBytes(StandardCharsets.US_ASCII);
    }

    byte[] value(long index) {
        if (nulls && index % 13 == 6) return null;
        if (nulls && index % 17 == 8) return new byte[0];
        long hash = hash(index);
        int size = index == bigIndex ? bigSize
            : minValue + (int) Long.remainderUnsigned(hash, maxValue - minValue + 1);
        return bytes(hash, size, index % 2 == 0);
    }

    List<Header> headers(long index) {
        List<Header> result = new ArrayList<>();
        if (!headers) return result;
        int count = (int) (index % (HEADER_KEYS.length + 1));
        for (int i = 0; i < count; i++) {
            byte[] value = i == 1 ? null : i == 4 ? new byte[0] : bytes(hash(index) + 1000 + i, 8, false);
            result.add(new RecordHeader(HEADER_KEYS[i], value));
        }
        return result;
    }

    /** Eight bytes of each mix, low byte first; readable ones are the letters a to p, which a codec can shrink. */
    private static byte[] bytes(long hash, int size, boolean readable) {
        byte[] result = new byte[size];
        long word = 0;
        for (int i = 0; i < size; i++) {
            if (i % 8 == 0) word = mix(hash + i / 8);
            int b = (int) (word >>> (8 * (i % 8))) & 0xFF;
            result[i] = (byte) (readable ? 'a' + (b & 15) : b);
        }
        return result;
    }

    ProducerRecord<byte[], byte[]> record(String topic, long index) {
        return new ProducerRecord<>(topic, partition(index), firstTimestamp + index, key(index), value(index),
            headers(index));
    }

    /** FNV-1a over every field of every record: both languages must say the same. */
    long digest() {
        long digest = 0xCBF29CE484222325L;
        for (long i = first; i < first + count; i++) {
            ProducerRecord<byte[], byte[]> record = record("t", i);
            digest = add(digest, Long.toString(record.partition()).getBytes(StandardCharsets.US_ASCII));
            digest = add(digest, Long.toString(record.timestamp()).getBytes(StandardCharsets.US_ASCII));
            digest = add(digest, record.key());
            digest = add(digest, record.value());
            for (Header header : record.headers()) {
                digest = add(digest, header.key().getBytes(StandardCharsets.UTF_8));
                digest = add(digest, header.value());
            }
        }
        return digest;
    }

    private static long add(long digest, byte[] bytes) {
        digest = (digest ^ (bytes == null ? 0 : 1)) * 0x100000001B3L;
        if (bytes != null) for (byte b : bytes) digest = (digest ^ (b & 0xFF)) * 0x100000001B3L;
        return digest;
    }
}
