import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

/** Judges chains as an HTTPS client of the JDK does, at a given time. Arguments: seconds since 1970, then folders. */
public class Verify {
    public static void main(String[] arguments) throws Exception {
        Date time = new Date(Long.parseLong(arguments[0]) * 1000);
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        for (String folder : Arrays.copyOfRange(arguments, 1, arguments.length)) {
            String result;
            try {
                Set<TrustAnchor> anchors = new HashSet<>();
                for (X509Certificate root : read(factory, folder + "/root.pem")) anchors.add(new TrustAnchor(root, null));
                PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors, new X509CertSelector());
                parameters.setRevocationEnabled(false);
                parameters.setDate(time);
                TrustManagerFactory managers = TrustManagerFactory.getInstance("PKIX");
                managers.init(new CertPathTrustManagerParameters(parameters));
                X509TrustManager manager = (X509TrustManager) managers.getTrustManagers()[0];
                X509Certificate[] chain = read(factory, folder + "/chain.pem").toArray(new X509Certificate[0]);
                manager.checkServerTrusted(chain, "ECDHE_ECDSA");
                result = "OK";
            } catch (Exception error) {
                Throwable cause = error;
                while (cause.getCause() != null) cause = cause.getCause();
                result = "NO " + cause.toString().replace('\n', ' ');
            }
            System.out.println(result);
        }
    }

    static List<X509Certificate> read(CertificateFactory factory, String path) throws Exception {
        List<X509Certificate> found = new ArrayList<>();
        try (InputStream in = Files.newInputStream(Paths.get(path))) {
            for (Certificate one : factory.generateCertificates(in)) found.add((X509Certificate) one);
        }
        return found;
    }
}
