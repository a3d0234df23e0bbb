package ottla;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** What only the ZooKeeper of a Kafka before 2.4 can be asked for: another order of a partition's replicas. */
public final class ZooKeeperAdmin {
    private ZooKeeperAdmin() {}

    /** Sets the order; whoever led goes on leading. The controller removes the node when it has done what it says. */
    public static void reorder(String address, String topic, int partition, List<Integer> replicas) throws Exception {
        String list = replicas.stream().map(String::valueOf).collect(Collectors.joining(",", "[", "]"));
        put(address, "/admin/reassign_partitions",
            "{\"version\":1,\"partitions\":[" + name(topic, partition) + ",\"replicas\":" + list + "}]}");
    }

    /** Asks once for the first of the replicas as the leader; one that is not in sync does not become it. */
    public static void electFirst(String address, String topic, int partition) throws Exception {
        put(address, "/admin/preferred_replica_election",
            "{\"version\":1,\"partitions\":[" + name(topic, partition) + "}]}");
    }

    private static String name(String topic, int partition) {
        return "{\"topic\":\"" + topic + "\",\"partition\":" + partition;
    }

    private static void put(String address, String path, String text) throws Exception {
        long deadline = System.nanoTime() + 30_000_000_000L;
        boolean created = false;
        ZooKeeper zookeeper = new ZooKeeper(address, 10_000, event -> {});
        try {
            while (true) {
                try {
                    if (!created) {
                        zookeeper.create(path, text.getBytes(StandardCharsets.UTF_8), ZooDefs.Ids.OPEN_ACL_UNSAFE,
                            CreateMode.PERSISTENT);
                        created = true;
                    }
                    if (zookeeper.exists(path, false) == null) return;
                } catch (KeeperException.NodeExistsException | KeeperException.ConnectionLossException e) {
                    // Somebody else's is being worked at, or the session is not there yet.
                }
                if (System.nanoTime() > deadline) throw new IllegalStateException(path + " is still there");
                Thread.sleep(20);
            }
        } finally {
            zookeeper.close();
        }
    }
}
