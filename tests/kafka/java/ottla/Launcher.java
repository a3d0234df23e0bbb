package ottla;

import java.io.File;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/**
 * Runs kafka.Kafka, or the ZooKeeper of old ones, so that it cannot outlive its owner.
 *
 * <p>{@code Launcher stdin <cluster id> <server.properties>}: the broker lives as long as standard input is open. The
 * line {@code stop} shuts it down in order (leaders move first), end of file ends it at once. The pipe closes when the
 * owner dies for any reason, so no JVM is left behind by a killed test.
 *
 * <p>{@code Launcher <lease file> <cluster id> <server.properties>}: the same until the line {@code stay}; from then on
 * the broker lives as long as that file exists. This is how {@code cargo xtask kafka stop} ends exactly the brokers that
 * {@code start} began, without a process id, and how an interrupted {@code start} leaves none behind.
 */
public final class Launcher {
    private Launcher() {}

    public static void main(String[] args) throws Exception {
        File lease = args[0].equals("stdin") ? null : new File(args[0]);
        Thread watch = new Thread(() -> watchInput(lease), "owner");
        watch.setDaemon(true);
        watch.start();
        Properties properties = new Properties();
        try (InputStream in = Files.newInputStream(Path.of(args[2]))) {
            properties.load(in);
        }
        if (properties.containsKey("clientPort")) {
            Class.forName("org.apache.zookeeper.server.quorum.QuorumPeerMain").getMethod("main", String[].class)
                .invoke(null, (Object) new String[] {args[2]});
            return;
        }
        if (properties.containsKey("process.roles")) format(args[1], args[2], properties);
        kafka.Kafka.main(new String[] {args[2]});
    }

    private static void watchInput(File lease) {
        try {
            InputStream in = System.in;
            StringBuilder line = new StringBuilder();
            for (int c = in.read(); c >= 0; c = in.read()) {
                if (c != '\n') {
                    line.append((char) c);
                } else {
                    if (line.toString().equals("stop")) stopInOrder();
                    if (line.toString().equals("stay")) watchLease(lease);
                    line.setLength(0);
                }
            }
        } catch (Throwable ignored) {
            // A broken pipe says the same as its end.
        }
        Runtime.getRuntime().halt(137);
    }

    private static void watchLease(File lease) {
        try {
            while (lease.exists()) Thread.sleep(100);
        } catch (InterruptedException ignored) {
            // Nobody interrupts this thread.
        }
        stopInOrder();
        halt(20_000);
    }

    private static void stopInOrder() {
        Thread exit = new Thread(() -> System.exit(0), "exit");
        exit.setDaemon(true);
        exit.start();
    }

    private static void halt(long afterMillis) {
        try {
            Thread.sleep(afterMillis);
        } catch (InterruptedException ignored) {
            // Falls through to the halt.
        }
        Runtime.getRuntime().halt(137);
    }

    /** Formats the storage in this JVM (a second JVM would cost more than a second), unless it already is. */
    private static void format(String clusterId, String config, Properties properties) throws Exception {
        if (new File(properties.getProperty("log.dirs"), "meta.properties").exists()) return;
        String[] command = {"format", "-t", clusterId, "-c", config};
        Method execute = Class.forName("kafka.tools.StorageTool")
            .getMethod("execute", String[].class, java.io.PrintStream.class);
        Object status = execute.invoke(null, command, System.out);
        if (!Integer.valueOf(0).equals(status)) {
            throw new IllegalStateException("formatting the storage failed with status " + status);
        }
    }
}
