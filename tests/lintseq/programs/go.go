// Package main counts words.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

const (
	few = iota
	many
)

type entry struct {
	word  string
	count int
}

type byCount []entry

func (b byCount) Len() int           { return len(b) }
func (b byCount) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b byCount) Less(i, j int) bool { return b[i].count > b[j].count }

// count returns the words of a text by how often they occur.
func count(text string) ([]entry, error) {
	seen := make(map[string]int)
	for _, word := range strings.Fields(text) {
		word = strings.ToLower(word)
		seen[word]++
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("no words")
	}
	var entries byCount
	for word, n := range seen {
		entries = append(entries, entry{word, n})
	}
	sort.Sort(entries)
	return entries, nil
}

func size(n int) string {
	switch {
	case n > 2:
		return "many"
	default:
		return "few"
	}
}

func main() {
	text := strings.Join(os.Args, " ")
	entries, err := count(text)
	if err != nil {
		fmt.Println(err)
		os.Exit(many)
	}
	total := 0
	for _, e := range entries {
		total += e.count
		fmt.Println(e.word, e.count)
	}
	fmt.Println(total, size(total), few)
}
