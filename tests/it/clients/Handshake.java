// Java's own HTTPS clients, one request a line of standard input: words like name=good.test port=8443 ca=ca.pem, then one
// line of standard output: the status of the answer, or what the exceptions say.
//
// HttpClient is the one of Java 11 and newer; with by=connection it is HttpsURLConnection, which older programs use.
// Requests are POST, because both repeat a GET on a connection of its own when the first one fails.

import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

public class Handshake {
    static final char[] NO_PASSWORD = new char[0];

    public static void main(String[] args) throws Exception {
        // What Java 7 and 8 could do, and Java 17 does only if it is told to.
        Security.setProperty("jdk.tls.disabledAlgorithms", "");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, String> words = new HashMap<>();
            for (String word : line.split(" ")) {
                String[] pair = word.split("=", 2);
                words.put(pair[0], pair[1]);
            }
            String outcome;
            try {
                outcome = "status " + request(words);
            } catch (Exception exception) {
                StringBuilder text = new StringBuilder();
                for (Throwable cause = exception; cause != null; cause = cause.getCause()) {
                    text.append(cause.toString().replace('\n', ' ')).append("; ");
                }
                outcome = text.toString();
            }
            System.out.println(outcome);
        }
    }

    static int request(Map<String, String> words) throws Exception {
        boolean older = "connection".equals(words.get("by"));
        // A context of TLSv1.2 has that version and older ones: the older API takes it from there.
        SSLContext context = SSLContext.getInstance(older ? words.getOrDefault("protocols", "TLS") : "TLS");
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        KeyStore store = empty();
        store.setCertificateEntry("ca", certificate(words.get("ca")));
        trust.init(store);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        store = empty();
        if (words.containsKey("identity")) {
            Certificate[] chain = {certificate(words.get("identity") + ".pem")};
            store.setKeyEntry("identity", key(words.get("identity") + ".key"), NO_PASSWORD, chain);
        }
        keys.init(store, NO_PASSWORD);
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        SSLParameters parameters = new SSLParameters();
        if (words.containsKey("protocols")) {
            parameters.setProtocols(words.get("protocols").split(","));
        }
        if (words.containsKey("suites")) {
            parameters.setCipherSuites(words.get("suites").split(","));
        }
        URI uri = URI.create("https://" + words.get("name") + ":" + words.get("port") + "/");
        if (older) {
            HttpsURLConnection connection = (HttpsURLConnection) uri.toURL().openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            connection.setRequestMethod("POST");
            return connection.getResponseCode();
        }
        HttpClient client = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .sslContext(context)
                .sslParameters(parameters)
                .build();
        HttpRequest request = HttpRequest.newBuilder(uri)
                .header("Connection", "close")
                .POST(HttpRequest.BodyPublishers.noBody())
                .build();
        return client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode();
    }

    static KeyStore empty() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    static Certificate certificate(String file) throws Exception {
        try (InputStream stream = Files.newInputStream(Path.of(file))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(stream);
        }
    }

    static PrivateKey key(String file) throws Exception {
        String text = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]+-----|\\s", "");
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text)));
    }
}
