package {package}

import (
	"fmt"
	"os"
	"strings"
)

func codegen_answer(value interface{}) {
	file, err := os.OpenFile(".answers", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(file, strings.ReplaceAll(fmt.Sprintf("%v", value), "\n", "\\n"))
	file.Close()
}

func codegen_done() {
	os.WriteFile(".answers", []byte(os.Getenv("CODEGEN_TOKEN")), 0600)
}

func codegen_show() {
	os.Stdout = os.Stderr
}
