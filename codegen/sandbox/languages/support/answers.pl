sub codegen_text {
    my ($v) = @_;
    return "undef" if !defined $v;
    my $kind = ref $v;
    return "[" . join(",", map { codegen_text($_) } @$v) . "]" if $kind eq "ARRAY";
    if ($kind eq "HASH") {
        my @pairs = map { codegen_text($_) . ":" . codegen_text($v->{$_}) } sort keys %$v;
        return "{" . join(",", @pairs) . "}";
    }
    my $text = "$v";
    $text =~ s/([\\"\x00-\x1f])/sprintf("\\%d;", ord($1))/ge;
    return "\"$text\"";
}
sub codegen_answer {
    open(my $codegen_file, ">>", ".answers");
    print $codegen_file codegen_text($_[0]), "\n";
    close($codegen_file);
}
