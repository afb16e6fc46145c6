// A registry that lives and never gets ready: 200 on /livez, 503 on everything else, on the port of the probes.
#include <arpa/inet.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop(int signal) { _exit(0); }

static void say(int peer, const char *text) { (void)!write(peer, text, strlen(text)); }

int main(void) {
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9180)};
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 16)) return 1;
    for (;;) {
        char request[1024] = "";
        int peer = accept(server, 0, 0);
        if (peer < 0) continue;
        if (read(peer, request, sizeof request - 1) > 0 && strncmp(request, "GET /livez", 10) == 0)
            say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        else
            say(peer, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close(peer);
    }
}
