// What each assertion says of right and wrong values.
import static org.assertj.core.api.Assertions.*;

import java.util.*;

class Cases {
    interface Case { void run() throws Throwable; }
    static int number = 0;

    static void check(Case one) {
        String found;
        try { one.run(); found = "holds"; }
        catch (Throwable error) { found = "fails"; }
        System.out.println(++number + " " + found);
    }

    static class Mine extends RuntimeException { Mine(String text) { super(text); } }
    static class Point {
        final int x;
        Point(int x) { this.x = x; }
        @Override public boolean equals(Object o) { return o instanceof Point && ((Point) o).x == x; }
        @Override public int hashCode() { return x; }
    }

    public static void main(String[] args) {
        check(() -> assertThat(1).isEqualTo(1));
        check(() -> assertThat(1).isEqualTo(2));
        check(() -> assertThat(1).isEqualTo(1L));
        check(() -> assertThat(1L).isEqualTo(1));
        check(() -> assertThat(1L << 40).isEqualTo(0));
        check(() -> assertThat(1.0).isEqualTo(1));
        check(() -> assertThat(1.5).isEqualTo(1));
        check(() -> assertThat(0.0).isEqualTo(-0.0));
        check(() -> assertThat(Double.NaN).isEqualTo(Double.NaN));
        check(() -> assertThat('a').isEqualTo('a'));
        check(() -> assertThat('a').isEqualTo('b'));
        check(() -> assertThat((int) 'a').isEqualTo('a'));
        check(() -> assertThat(Integer.valueOf(3)).isEqualTo(3));
        check(() -> assertThat(Long.valueOf(3)).isEqualTo(3));
        check(() -> assertThat((Object) Long.valueOf(3)).isEqualTo(3));
        check(() -> assertThat((Object) 3).isEqualTo(3.0));
        check(() -> assertThat((Integer) null).isEqualTo(3));
        check(() -> assertThat((Integer) null).isNull());
        check(() -> assertThat((String) null).isEqualTo(null));
        check(() -> assertThat((String) null).isNotNull());
        check(() -> assertThat("a").isEqualTo("a"));
        check(() -> assertThat("a").isNotEqualTo("a"));
        check(() -> assertThat("a").isNotEqualTo("b"));
        check(() -> assertThat("").isEmpty());
        check(() -> assertThat("a").isEmpty());
        check(() -> assertThat("a").isNotEmpty());
        check(() -> assertThat("abc").hasSize(3));
        check(() -> assertThat(true).isTrue());
        check(() -> assertThat(false).isTrue());
        check(() -> assertThat(Boolean.FALSE).isFalse());
        check(() -> assertThat((Boolean) null).isFalse());
        check(() -> assertThat(new Point(1)).isEqualTo(new Point(1)));
        check(() -> assertThat(new Point(1)).isEqualTo(new Point(2)));
        check(() -> assertThat(new int[] {1, 2}).isEqualTo(new int[] {1, 2}));
        check(() -> assertThat(new int[] {1, 2}).isEqualTo(new long[] {1, 2}));
        check(() -> assertThat(new char[][] {{'a'}, {'b'}}).isEqualTo(new char[][] {{'a'}, {'b'}}));
        check(() -> assertThat(new char[][] {{'a'}}).isNotEqualTo(new char[][] {{'b'}}));
        check(() -> assertThat(new char[][] {{'a'}}).isNotEqualTo(new char[][] {{'a'}}));
        check(() -> assertThat(new char[][] {{'a', 'b'}, {'c', 'd'}}).hasDimensions(2, 2));
        check(() -> assertThat(new char[][] {{'a', 'b'}, {'c'}}).hasDimensions(2, 2));
        check(() -> assertThat(new char[][] {{'a', 'b'}}).hasDimensions(2, 2));
        check(() -> assertThat(List.of(1, 2)).isEqualTo(Arrays.asList(1, 2)));
        check(() -> assertThat(List.of(1, 2)).isEqualTo(Set.of(1, 2)));
        check(() -> assertThat(Map.of("a", 1)).isEqualTo(new TreeMap<>(Map.of("a", 1))));
        check(() -> assertThat(1.05).isCloseTo(1, offset(0.1)));
        check(() -> assertThat(1.5).isCloseTo(1.0, offset(0.5)));
        check(() -> assertThat(1.5).isCloseTo(1.0, within(0.4)));
        check(() -> assertThat(1.5).isEqualTo(1.0, within(0.5)));
        check(() -> assertThat(Double.NaN).isCloseTo(1.0, within(0.5)));
        check(() -> assertThat(Double.NaN).isCloseTo(Double.NaN, within(0.5)));
        check(() -> assertThat(Double.POSITIVE_INFINITY).isCloseTo(Double.POSITIVE_INFINITY, within(1.0)));
        check(() -> assertThat(0).isZero());
        check(() -> assertThat(1).isZero());
        check(() -> assertThat(1).isOne());
        check(() -> assertThat(0L).isZero());
        check(() -> assertThat(2.0).isOne());
        check(() -> assertThat('a').isIn('a', 'b'));
        check(() -> assertThat('c').isIn('a', 'b'));
        check(() -> assertThat("a").isIn(List.of("a")));
        check(() -> assertThat(List.of()).isEmpty());
        check(() -> assertThat(List.of(1)).isEmpty());
        check(() -> assertThat((List<?>) null).isEmpty());
        check(() -> assertThat(Map.of()).isEmpty());
        check(() -> assertThat(new int[0]).isEmpty());
        check(() -> assertThat(Map.of(1, 1)).isNotEmpty());
        check(() -> assertThat(Optional.empty()).isEmpty());
        check(() -> assertThat(List.of(1, 2)).hasSize(2));
        check(() -> assertThat(List.of(1, 2)).hasSize(1));
        check(() -> assertThat(List.of(1, 2)).hasSameSizeAs(List.of(3, 4)));
        check(() -> assertThat(List.of(1, 2)).hasSameSizeAs(List.of(3)));
        check(() -> assertThat(List.of(1, 2)).containsExactly(1, 2));
        check(() -> assertThat(List.of(1, 2)).containsExactly(2, 1));
        check(() -> assertThat(List.of(1, 2)).containsExactly(1));
        check(() -> assertThat(List.of(1)).containsExactly(1, 2));
        check(() -> assertThat(new int[] {1, 2}).containsExactly(1, 2));
        check(() -> assertThat(new int[] {1, 2}).containsExactly(new int[] {1, 2}));
        check(() -> assertThat(new int[] {1, 2}).containsExactly(1, 3));
        check(() -> assertThat(new long[] {1, 2}).containsExactly(1, 2));
        check(() -> assertThat(new double[] {1, 2}).containsExactly(1, 2));
        check(() -> assertThat(new char[] {'a'}).containsExactly('a'));
        check(() -> assertThat(new String[] {"a", "b"}).containsExactly("a", "b"));
        check(() -> assertThat(new String[] {"a", "b"}).containsExactly(new String[] {"a", "b"}));
        check(() -> assertThat(new String[] {"a", null}).containsExactly("a", null));
        check(() -> assertThat(List.of(new int[] {1})).containsExactly(new int[] {1}));
        check(() -> assertThat((List<Integer>) null).containsExactly(1));
        check(() -> assertThat(List.of(1, 2, 2)).containsExactlyInAnyOrder(2, 1, 2));
        check(() -> assertThat(List.of(1, 2, 2)).containsExactlyInAnyOrder(2, 1, 1));
        check(() -> assertThat(List.of(1, 2)).containsExactlyInAnyOrder(1, 2, 2));
        check(() -> assertThat(Set.of(1, 2)).containsExactlyInAnyOrder(2, 1));
        check(() -> assertThat(List.of(1, 2)).containsExactlyElementsOf(List.of(1, 2)));
        check(() -> assertThat(List.of(1, 2)).containsExactlyElementsOf(List.of(2, 1)));
        check(() -> assertThat(List.of(1, 2, 2)).containsOnly(2, 1));
        check(() -> assertThat(List.of(1, 2)).containsOnly(1));
        check(() -> assertThat(List.of(1)).containsOnly(1, 2));
        check(() -> assertThat(Map.of("a", 1, "b", 2)).containsOnly(Map.entry("b", 2), Map.entry("a", 1)));
        check(() -> assertThat(Map.of("a", 1, "b", 2)).containsOnly(Map.entry("a", 1)));
        check(() -> assertThat(Map.of("a", 1)).containsOnly(Map.entry("a", 2)));
        check(() -> assertThat(List.of(1, 2)).contains(2));
        check(() -> assertThat(List.of(1, 2)).contains(3));
        check(() -> assertThat(1).as("a %d", 1).withFailMessage("b %s", "c").isEqualTo(2));
        check(() -> assertThat(new Mine("a")).isInstanceOf(RuntimeException.class));
        check(() -> assertThat(new Mine("a")).isInstanceOf(IllegalStateException.class));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new Mine("a"); }));
        check(() -> assertThatExceptionOfType(RuntimeException.class).isThrownBy(() -> { throw new Mine("a"); }));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new RuntimeException("a"); }));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { }));
        check(() -> assertThatExceptionOfType(Mine.class).as("x").isThrownBy(() -> { throw new Mine("a"); }).withMessage("a"));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new Mine("a"); }).withMessage("b"));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new Mine("a 3"); }).withMessage("a %d", 3));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new Mine("100%"); }).withMessage("100%"));
        check(() -> assertThatExceptionOfType(Mine.class).isThrownBy(() -> { throw new Mine(null); }).withMessage("a"));
        check(() -> assertThatIllegalArgumentException().isThrownBy(() -> { throw new NumberFormatException("a"); }));
        check(() -> assertThatIllegalArgumentException().isThrownBy(() -> { throw new Mine("a"); }));
        check(() -> assertThatThrownBy(() -> { throw new Mine("abc"); }).isInstanceOf(Mine.class).hasMessageContaining("bc"));
        check(() -> assertThatThrownBy(() -> { throw new Mine("abc"); }).hasMessageContaining("x"));
        check(() -> assertThatThrownBy(() -> { }).isInstanceOf(Mine.class));
        check(() -> fail("a"));
    }
}
