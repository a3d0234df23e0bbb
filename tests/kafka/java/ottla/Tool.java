package ottla;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsResult;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnsupportedVersionException;

/** A helper that lives as long as its standard input: one JSON command a line, one JSON answer a line, in order. */
public final class Tool {
    private final String bootstrap;
    private final String zookeeper;
    private final Admin admin;
    private final Transactions transactions;

    private Tool(String bootstrap, String zookeeper) {
        this.bootstrap = bootstrap;
        this.zookeeper = zookeeper;
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", "ottla-tool");
        properties.put("default.api.timeout.ms", "60000");
        properties.put("request.timeout.ms", "15000");
        this.admin = Admin.create(properties);
        this.transactions = new Transactions(bootstrap, admin);
    }

    public static void main(String[] args) throws Exception {
        Json.object();
        Tool tool = new Tool(args[0], args.length > 1 ? args[1] : null);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode answer = Json.object();
            try {
                tool.run(Json.parse(line), answer);
            } catch (Throwable e) {
                answer = Json.object();
                Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
                answer.put("error", cause.toString());
            }
            Json.print(answer);
        }
        Runtime.getRuntime().halt(0);
    }

    private void run(JsonNode command, ObjectNode answer) throws Exception {
        String topic = Json.text(command, "topic", null);
        String group = Json.text(command, "group", null);
        int partition = (int) Json.number(command, "partition", 0);
        switch (command.get("command").asText()) {
            case "produce" -> Produce.run(bootstrap, command, answer);
            case "transaction_send" -> transactions.send(command);
            case "transaction_end" -> transactions.end(command);
            case "read" -> transactions.read(command, answer);
            case "digest" -> answer.put("digest", Long.toHexString(new Records(command).digest()));
            case "create_topic" -> createTopic(topic, command, answer);
            case "delete_topic" -> deleteTopic(topic);
            case "create_partitions" -> admin.createPartitions(
                Map.of(topic, NewPartitions.increaseTo((int) Json.number(command, "partitions", 1)))).all().get();
            case "delete_records" -> admin.deleteRecords(Map.of(new TopicPartition(topic, partition),
                RecordsToDelete.beforeOffset(Json.number(command, "before", -1)))).all().get();
            case "alter_topic" -> alterTopic(topic, command.get("config"));
            case "describe_topic" -> describeTopic(topic, answer);
            case "offsets" -> offsets(topic, answer);
            case "committed" -> committed(group, answer);
            case "alter_committed" -> admin.alterConsumerGroupOffsets(group, Map.of(new TopicPartition(topic, partition),
                new OffsetAndMetadata(Json.number(command, "offset", 0)))).all().get();
            case "describe_group" -> describeGroup(group, answer);
            case "consumer_groups" -> consumerGroups(command.get("arguments"), answer);
            case "move_leader" -> moveLeader(topic, partition, (int) Json.number(command, "to", 0));
            default -> throw new IllegalArgumentException("unknown command " + command);
        }
    }

    private void deleteTopic(String topic) throws Exception {
        admin.deleteTopics(List.of(topic)).all().get();
        // Where there is a ZooKeeper the topic is only marked: the name is free a moment later.
        CreateTopicsOptions asking = new CreateTopicsOptions().validateOnly(true);
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try {
                admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1)), asking).all().get();
                return;
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof TopicExistsException) || System.nanoTime() > deadline) throw e;
                Thread.sleep(20);
            }
        }
    }

    private void createTopic(String topic, JsonNode command, ObjectNode answer) throws Exception {
        int partitions = (int) Json.number(command, "partitions", 1);
        short replication = (short) Json.number(command, "replication", -1);
        Map<String, String> config = new HashMap<>();
        JsonNode wanted = command.get("config");
        if (wanted != null) wanted.fields().forEachRemaining(e -> config.put(e.getKey(), e.getValue().asText()));
        try {
            create(new NewTopic(topic, partitions, replication).configs(config));
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof UnsupportedVersionException) || replication >= 0) throw e;
            // Brokers before 2.4 have no default that could be asked for.
            int brokers = admin.describeCluster().nodes().get().size();
            create(new NewTopic(topic, partitions, (short) Math.min(3, brokers)).configs(config));
        }
        // The answer comes when the controller knows the topic; brokers learn of it a moment later.
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try {
                offsets(topic, Json.object());
                answer.put("id", describe(topic).topicId().toString());
                return;
            } catch (Exception e) {
                if (System.nanoTime() > deadline) throw e;
                Thread.sleep(20);
            }
        }
    }

    private void create(NewTopic topic) throws Exception {
        admin.createTopics(List.of(topic)).values().get(topic.name()).get();
    }

    private void alterTopic(String topic, JsonNode config) throws Exception {
        List<AlterConfigOp> operations = new ArrayList<>();
        config.fields().forEachRemaining(e -> operations.add(
            new AlterConfigOp(new ConfigEntry(e.getKey(), e.getValue().asText()), AlterConfigOp.OpType.SET)));
        Map<ConfigResource, Collection<AlterConfigOp>> request =
            Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), operations);
        try {
            admin.incrementalAlterConfigs(request).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof UnsupportedVersionException)) throw e;
            // Before 2.3. The call is not in Kafka 4's clients any more, which have no such brokers to do with.
            List<ConfigEntry> entries = new ArrayList<>();
            config.fields().forEachRemaining(c -> entries.add(new ConfigEntry(c.getKey(), c.getValue().asText())));
            Object result = Admin.class.getMethod("alterConfigs", Map.class)
                .invoke(admin, Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), new Config(entries)));
            ((AlterConfigsResult) result).all().get();
        }
    }

    private TopicDescription describe(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private void describeTopic(String topic, ObjectNode answer) throws Exception {
        TopicDescription description = describe(topic);
        answer.put("id", description.topicId().toString());
        ArrayNode partitions = answer.putArray("partitions");
        for (TopicPartitionInfo info : description.partitions()) {
            ObjectNode node = partitions.addObject();
            node.put("partition", info.partition());
            node.put("leader", info.leader() == null ? -1 : info.leader().id());
            ArrayNode replicas = node.putArray("replicas");
            info.replicas().forEach(replica -> replicas.add(replica.id()));
            ArrayNode isr = node.putArray("isr");
            info.isr().forEach(replica -> isr.add(replica.id()));
        }
    }

    private void offsets(String topic, ObjectNode answer) throws Exception {
        Map<TopicPartition, OffsetSpec> earliest = new HashMap<>();
        Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
        for (TopicPartitionInfo info : describe(topic).partitions()) {
            earliest.put(new TopicPartition(topic, info.partition()), OffsetSpec.earliest());
            latest.put(new TopicPartition(topic, info.partition()), OffsetSpec.latest());
        }
        var starts = admin.listOffsets(earliest).all().get();
        var ends = admin.listOffsets(latest).all().get();
        ArrayNode partitions = answer.putArray("partitions");
        for (int p = 0; p < earliest.size(); p++) {
            TopicPartition key = new TopicPartition(topic, p);
            partitions.addObject().put("partition", p).put("start", starts.get(key).offset())
                .put("end", ends.get(key).offset());
        }
    }

    private void committed(String group, ObjectNode answer) throws Exception {
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        ArrayNode partitions = answer.putArray("partitions");
        committed.forEach((key, offset) -> {
            if (offset == null) return;
            ObjectNode node = partitions.addObject().put("topic", key.topic()).put("partition", key.partition())
                .put("offset", offset.offset()).put("metadata", offset.metadata());
            offset.leaderEpoch().ifPresent(epoch -> node.put("leader_epoch", epoch));
        });
    }

    @SuppressWarnings("deprecation") // groupState() came in 4.0; state() is still there.
    private void describeGroup(String group, ObjectNode answer) throws Exception {
        ConsumerGroupDescription description =
            admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        answer.put("state", description.state().toString());
        answer.put("assignor", description.partitionAssignor());
        Node coordinator = description.coordinator();
        answer.put("coordinator", coordinator == null ? -1 : coordinator.id());
        ArrayNode members = answer.putArray("members");
        for (MemberDescription member : description.members()) {
            ObjectNode node = members.addObject().put("id", member.consumerId()).put("client_id", member.clientId())
                .put("host", member.host()).put("instance_id", member.groupInstanceId().orElse(null));
            Map<String, List<Integer>> owned = new TreeMap<>();
            member.assignment().topicPartitions().forEach(
                tp -> owned.computeIfAbsent(tp.topic(), t -> new ArrayList<>()).add(tp.partition()));
            ObjectNode assignment = node.putObject("assignment");
            owned.forEach((name, list) -> {
                ArrayNode array = assignment.putArray(name);
                list.stream().sorted().forEach(array::add);
            });
        }
    }

    /** Kafka's own kafka-consumer-groups, run in this JVM; what it prints comes back as text. */
    private void consumerGroups(JsonNode arguments, ObjectNode answer) throws Exception {
        List<String> all = new ArrayList<>(Arrays.asList("--bootstrap-server", bootstrap));
        arguments.forEach(argument -> all.add(argument.asText()));
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream before = System.out;
        // The tool ends its JVM when it fails; here that must only end the call.
        org.apache.kafka.common.utils.Exit.setExitProcedure((status, message) -> {
            throw new IllegalStateException("exit " + status + ": " + bytes.toString(StandardCharsets.UTF_8));
        });
        try {
            System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
            org.apache.kafka.tools.consumer.group.ConsumerGroupCommand.main(all.toArray(new String[0]));
        } finally {
            System.setOut(before);
            org.apache.kafka.common.utils.Exit.resetExitProcedure();
        }
        answer.put("output", bytes.toString(StandardCharsets.UTF_8));
    }

    private void moveLeader(String topic, int partition, int to) throws Exception {
        TopicPartition key = new TopicPartition(topic, partition);
        List<Integer> replicas = new ArrayList<>();
        replicas.add(to);
        for (Node node : describe(topic).partitions().get(partition).replicas()) {
            if (node.id() != to) replicas.add(node.id());
        }
        Class<?> old = null;
        try {
            admin.alterPartitionReassignments(Map.of(key, Optional.of(new NewPartitionReassignment(replicas)))).all()
                .get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof UnsupportedVersionException) || zookeeper == null) throw e;
            old = Class.forName("ottla.ZooKeeperAdmin");
            old.getMethod("reorder", String.class, String.class, int.class, List.class)
                .invoke(null, zookeeper, topic, partition, replicas);
        }
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try {
                if (old == null) {
                    admin.electLeaders(ElectionType.PREFERRED, Set.of(key)).all().get();
                } else {
                    old.getMethod("electFirst", String.class, String.class, int.class)
                        .invoke(null, zookeeper, topic, partition);
                }
            } catch (Exception ignored) {
                // Not needed, or not in sync yet: the description below decides.
            }
            Node leader = describe(topic).partitions().get(partition).leader();
            if (leader != null && leader.id() == to) return;
            if (System.nanoTime() > deadline) throw new IllegalStateException("the leader is still " + leader);
            Thread.sleep(20);
        }
    }
}
