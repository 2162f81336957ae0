#include <stdio.h>
#include <stdlib.h>

#define LIMIT 3
#define TWICE(x) (2 * twice_of(x))

typedef struct node {
    int value;
    struct node *next;
} node_t;

enum color {
    RED,
    GREEN,
};

static int twice_of(int x);

static int twice_of(int x)
{
    return 2 * x;
}

#ifdef VERBOSE
static int verbose = 1;
#endif

static node_t *push(node_t *list, int value)
{
    node_t *node = malloc(sizeof(node_t));
    if (node == NULL) {
        goto failed;
    }
    node->value = value;
    node->next = list;
    return node;
failed:
    return list;
}

int main(int argc, char **argv)
{
    node_t *list = NULL;
    int total = 0;
    for (int i = 0; i < LIMIT; i++) {
        /* the newest first */
        list = push(list, TWICE(i));
    }
    for (node_t *node = list; node != NULL; node = node->next) {
        total += node->value;
    }
    switch (argc) {
    case RED:
        puts("red");
        break;
    default:
        printf("%d %s %d", total, argv[0], GREEN);
    }
    return 0;
}
