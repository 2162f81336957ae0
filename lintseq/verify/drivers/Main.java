import com.sun.source.util.JavacTask;
import java.io.*;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.*;
import javax.tools.*;

public class Main {
    static String check(JavaCompiler compiler, JavaFileManager files, String text) {
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        List<String> options = List.of("-proc:none", "-nowarn", "-Xlint:none");
        try {
            JavacTask task = (JavacTask) compiler.getTask(
                new StringWriter(), files, found, options, null, List.of(new State(text)));
            task.analyze();
        } catch (IOException | RuntimeException error) {
            return "0\t" + error;
        }
        for (Diagnostic<?> one : found.getDiagnostics())
            if (one.getKind() == Diagnostic.Kind.ERROR)
                return one.getLineNumber() + "\t" + one.getMessage(Locale.ROOT).replace('\n', ' ');
        return "";
    }

    public static void main(String[] arguments) throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        JavaFileManager files =
            compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);
        String input = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        StringBuilder out = new StringBuilder();
        for (String text : input.split("\0", -1))
            out.append(check(compiler, files, text)).append('\n');
        PrintStream stream = new PrintStream(System.out, false, "UTF-8");
        stream.print(out);
        stream.flush();
    }

    static class State extends SimpleJavaFileObject {
        final String text;
        State(String text) {
            super(URI.create("string:///State.java"), Kind.SOURCE);
            this.text = text;
        }
        @Override public CharSequence getCharContent(boolean ignore) { return text; }
        @Override public boolean isNameCompatible(String name, Kind kind) { return true; }
    }
}
