// A registry that exits at once.
#include <stdio.h>

int main(void) {
    fputs("this image is broken for a test: it exits at once\n", stderr);
    return 1;
}
