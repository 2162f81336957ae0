
object CodegenAnswers {
  def answer(value: Any): Unit = java.nio.file.Files.write(
    java.nio.file.Paths.get(".answers"), (text(value) + "\n").getBytes("UTF-8"),
    java.nio.file.StandardOpenOption.CREATE, java.nio.file.StandardOpenOption.APPEND)

  private def number(n: Double): String =
    if (n == java.lang.Math.rint(n) && java.lang.Math.abs(n) < 1e15) n.toLong.toString else n.toString

  def text(v: Any): String = v match {
    case null => "null"
    case n: Float => number(n.toDouble)
    case n: Double => number(n)
    case c: Char => text(c.toString)
    case s: String => s.map(c =>
      if (c < ' ' || c == '"' || c == '\\') "\\" + c.toInt + ";" else c.toString).mkString("\"", "", "\"")
    case m: scala.collection.Map[_, _] =>
      m.toSeq.map(e => text(e._1) + ":" + text(e._2)).sorted.mkString("{", ",", "}")
    case s: scala.collection.Set[_] => s.toSeq.map((e: Any) => text(e)).sorted.mkString("[", ",", "]")
    case a: Array[_] => text(a.toSeq)
    case s: scala.collection.Iterable[_] => s.map((e: Any) => text(e)).toSeq.mkString("[", ",", "]")
    case Some(e) => "some " + text(e)
    case None => "none"
    case Left(e) => "left " + text(e)
    case Right(e) => "right " + text(e)
    case p: Product if p.productPrefix.startsWith("Tuple") =>
      p.productIterator.map((e: Any) => text(e)).mkString("(", ",", ")")
    case _ => v.toString
  }
}
