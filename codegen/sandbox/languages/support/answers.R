codegen_text <- function(v) {
  if (is.null(v)) return("NULL")
  named <- if (is.null(names(v))) "" else paste0(" names ", codegen_text(names(v)))
  if (is.list(v)) {
    parts <- vapply(seq_along(v), function(i) codegen_text(v[[i]]), "")
    return(paste0("list(", paste(parts, collapse = ","), ")", named))
  }
  if (is.numeric(v)) {
    parts <- ifelse(is.na(v), "NA", trimws(formatC(v, digits = 8, format = "g")))
    return(paste0("c(", paste(parts, collapse = ","), ")", named))
  }
  paste0("c(", paste(deparse(as.vector(unname(v))), collapse = " "), ")", named)
}
codegen_answer <- function(value) {
  cat(codegen_text(value), "\n", file = ".answers", append = TRUE, sep = "")
}
