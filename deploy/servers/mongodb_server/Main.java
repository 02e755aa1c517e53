import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** mongo-java-server on an address and a port. PyMongo asks for a wire version that the server's own list does not have. */
public class Main {
    public static void main(String[] arguments) {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new MongoVersion() {
            public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
            public int getWireVersion() { return 13; }
        });
        MongoServer server = new MongoServer(backend);
        server.bind(arguments[0], Integer.parseInt(arguments[1]));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    }
}
