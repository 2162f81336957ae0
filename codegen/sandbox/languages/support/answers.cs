static class CodegenAnswers {
    static string path = System.IO.Path.GetFullPath(".answers");

    public static void Answer(object value) {
        System.IO.File.AppendAllText(path, Text(value) + "\n");
    }

    static string Joined(System.Collections.IEnumerable items, bool sorted) {
        var parts = new System.Collections.Generic.List<string>();
        foreach (object item in items) parts.Add(Text(item));
        if (sorted) parts.Sort(string.CompareOrdinal);
        return string.Join(",", parts);
    }

    static string Fields(object v) {
        var parts = new System.Collections.Generic.List<string>();
        for (int i = 1; ; i++) {
            var property = v.GetType().GetProperty("Item" + i);
            var field = v.GetType().GetField("Item" + i);
            if (property == null && field == null) return "(" + string.Join(",", parts) + ")";
            parts.Add(Text(property != null ? property.GetValue(v, null) : field.GetValue(v)));
        }
    }

    static string Number(double number) {
        var plain = System.Globalization.CultureInfo.InvariantCulture;
        return number == System.Math.Floor(number) && System.Math.Abs(number) < 1e15
            ? ((long) number).ToString(plain) : number.ToString("R", plain);
    }

    static string Text(object v) {
        if (v == null) return "null";
        if (v is bool) return (bool) v ? "true" : "false";
        if (v is float || v is double || v is decimal) return Number(System.Convert.ToDouble(v));
        if (v is string || v is char) {
            var text = new System.Text.StringBuilder("\"");
            foreach (char c in v.ToString())
                if (c < 32 || c == '"' || c == '\\') text.Append('\\').Append((int) c).Append(';');
                else text.Append(c);
            return text.Append('"').ToString();
        }
        var map = v as System.Collections.IDictionary;
        if (map != null) {
            var parts = new System.Collections.Generic.List<string>();
            foreach (System.Collections.DictionaryEntry item in map)
                parts.Add(Text(item.Key) + ":" + Text(item.Value));
            parts.Sort(string.CompareOrdinal);
            return "{" + string.Join(",", parts) + "}";
        }
        var items = v as System.Collections.IEnumerable;
        string name = v.GetType().Name;
        if (items != null) return "[" + Joined(items, name.Contains("Set`")) + "]";
        return name.Contains("Tuple`") ? Fields(v) : v.ToString();
    }
}
