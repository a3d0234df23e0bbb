package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Kafka's own consumer in a benchmark: reads the topic of a job without counting until it is warm, then as often as the
 * job says, and prints what that cost, as the clients in benches/ do.
 */
public final class Bench {
    private static long records;
    private static long bytes;
    private static long checksum;

    private Bench() {}

    public static void main(String[] args) throws Exception {
        long start = ManagementFactory.getRuntimeMXBean().getStartTime();
        JsonNode job = Json.parse(args[0]);
        String fetch = job.get("fetch_bytes").asText();
        Properties properties = new Properties();
        properties.put("bootstrap.servers", job.get("bootstrap").asText());
        properties.put("enable.auto.commit", "false");
        properties.put("fetch.max.bytes", fetch);
        properties.put("max.partition.fetch.bytes", fetch);
        properties.put("max.poll.records", "10000");
        properties.put("fetch.max.wait.ms", job.get("max_wait_ms").asText());
        List<TopicPartition> partitions = new ArrayList<>();
        for (int p = 0; p < job.get("partitions").asInt(); p++) {
            partitions.add(new TopicPartition(job.get("topic").asText(), p));
        }
        long first = 0;
        long[] begin = null;
        try (KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(partitions);
            long warmUp = Json.number(job, "warm_up", 1);
            for (long pass = 0; pass < warmUp + job.get("passes").asLong(); pass++) {
                if (pass == warmUp) {
                    begin = now();
                    records = bytes = checksum = 0;
                }
                consumer.seekToBeginning(partitions);
                long end = records + job.get("records").asLong();
                while (records < end) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(10))) touch(record);
                    if (first == 0) first = System.currentTimeMillis() - start;
                }
            }
            long[] end = now();
            ObjectNode result = Json.object();
            result.put("records", records);
            result.put("bytes", bytes);
            result.put("checksum", checksum);
            result.put("wall_ns", end[2] - begin[2]);
            result.put("system_ns", end[1] - begin[1]);
            result.put("user_ns", end[0] - begin[0] - (end[1] - begin[1]));
            result.put("peak_rss_kib", status("VmHWM:"));
            result.put("first_record_ns", first * 1_000_000);
            Json.print(result);
        }
    }

    private static void touch(ConsumerRecord<byte[], byte[]> record) {
        byte[] value = record.value();
        int key = record.key() == null ? 0 : record.key().length;
        records++;
        bytes += key + value.length;
        checksum += key + (value[0] & 0xff) + ((long) (value[value.length - 1] & 0xff) << 8);
    }

    /** CPU time, the part of it in the kernel (in steps of 10 ms) and the time, in nanoseconds. */
    private static long[] now() throws Exception {
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        String stat = Files.readString(Path.of("/proc/self/stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return new long[] {
            system.getProcessCpuTime(), Long.parseLong(fields[12]) * 10_000_000, System.nanoTime()
        };
    }

    private static long status(String name) throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith(name)) return Long.parseLong(line.substring(name.length()).strip().split(" ")[0]);
        }
        return 0;
    }
}
