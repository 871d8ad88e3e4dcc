/* Holds the namespaces of a pod: sleeps, collects the orphans that end up with it when the pod shares its process
 * namespace, and goes when it is told to. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) {
	(void)signal;
	_exit(0);
}

static void reap(int signal) {
	(void)signal;
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

int main(void) {
	struct sigaction action = {0};

	action.sa_handler = leave;
	if (sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0) {
		return 1;
	}
	action.sa_handler = reap;
	action.sa_flags = SA_NOCLDSTOP;
	if (sigaction(SIGCHLD, &action, NULL) < 0) {
		return 1;
	}
	reap(SIGCHLD); /* whoever died before the handler was there */
	for (;;) {
		pause();
	}
}
